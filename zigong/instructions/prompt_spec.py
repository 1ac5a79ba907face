"""The prompt settings of a model: everything a prompt depends on except the sequence and the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from zigong.files.digests import json_digest
from zigong.instructions.computed import ANSWERED_FROM
from zigong.instructions.histories import event_columns
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
    """

    settings: Instructions
    horizon: Horizon
    timezone: str
    context_length: int
    unit: Unit = "user"

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> PromptSpec:
        """The settings that a recipe trains with; questions use its first horizon."""
        return PromptSpec(
            settings=recipe.instructions,
            horizon=recipe.labels.horizons[0],
            timezone=recipe.business_timezone,
            context_length=min(recipe.agent.context_length, recipe.finetune.context_length),
            unit=recipe.observations.unit,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of all settings, as 64 hex digits."""
        content = {
            "settings": self.settings.model_dump(mode="json"),
            "horizon": self.horizon.model_dump(mode="json"),
            "timezone": self.timezone,
            "context_length": self.context_length,
            "unit": self.unit,
        }
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
