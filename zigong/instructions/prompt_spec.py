"""The prompt settings of a model: everything a prompt depends on except the sequence and the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zigong.errors import ConfigError
from zigong.files.digests import json_digest
from zigong.instructions.computed import ANSWERED_FROM
from zigong.instructions.histories import event_columns
from zigong.instructions.numbers import NumberWords
from zigong.instructions.tasks import Tasks, load_tasks
from zigong.instructions.templates import Template
from zigong.recipe import Horizon, Instructions, Recipe, Unit


@dataclass(frozen=True, kw_only=True)
class PromptSpec:
    """The settings of all prompts of a model.

    Attributes:
        settings: template, language, and how a sequence becomes text.
        horizon: what the question asks about the future.
        timezone: business time zone, which determines the dates of events.
        context_length: tokens of prompt and answer; older months fold until a prompt fits.
        unit: whether questions are about a client or about one of the client's loans.
        numbers: bins of the numbers in the text; None: numbers are rounded.
    """

    settings: Instructions
    horizon: Horizon
    timezone: str
    context_length: int
    unit: Unit = "user"
    numbers: NumberWords | None = None

    def __post_init__(self) -> None:
        if (self.settings.quantiles is None) != (self.numbers is None):
            raise ConfigError(
                f"instructions.quantiles is {self.settings.quantiles}, and the bins of numbers are "
                f"{'missing' if self.numbers is None else 'given'}",
                action="run fit_numbers in this run",
            )

    @classmethod
    def of_recipe(cls, recipe: Recipe, numbers: NumberWords | None = None) -> PromptSpec:
        """The settings that a recipe trains with; questions use its first horizon.

        Args:
            numbers: the bins that the run fitted, or those of the champion.

        Raises:
            ConfigError: the recipe needs bins and there are none, or the other way round.
        """
        return PromptSpec(
            settings=recipe.instructions,
            horizon=recipe.labels.horizons[0],
            timezone=recipe.business_timezone,
            context_length=min(recipe.agent.context_length, recipe.finetune.context_length),
            unit=recipe.observations.unit,
            numbers=numbers,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of all settings, as 64 hex digits."""
        content: dict[str, Any] = {
            "settings": self.settings.model_dump(mode="json"),
            "horizon": self.horizon.model_dump(mode="json"),
            "timezone": self.timezone,
            "context_length": self.context_length,
            "unit": self.unit,
        }
        if self.numbers is not None:
            content["numbers"] = self.numbers.digest
        if self.settings.time != "gap":
            content["dates"] = "century digits month day"
        return json_digest(content)

    @cached_property
    def tasks(self) -> Tasks:
        """The questions named by the settings."""
        return load_tasks(self.settings)

    @property
    def template(self) -> Template:
        """The main question, whose template provides the lines around every question."""
        return self.tasks.main

    @property
    def question_lines(self) -> tuple[str, ...]:
        """The question in each of its phrasings."""
        return tuple(self.template.ask(self.horizon, number) for number in range(len(self.template.phrasings)))

    @property
    def event_fields(self) -> tuple[str, ...]:
        """The event fields that a line or an answer depends on."""
        answers = ANSWERED_FROM if self.tasks.read_events else ()
        return tuple(dict.fromkeys((*event_columns(self.settings), *answers)))
