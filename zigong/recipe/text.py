"""The sections of a recipe about text: how a sequence is rendered, and the questions about it."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from zigong.recipe.sections import EventField, Positive, Section


class Auxiliary(Section):
    """A further question for train users."""

    template: str = Field(description="name@version of a shipped template")
    share: float = Field(1.0, gt=0, le=1, description="share of the train sequences with this question, by hash")


class Instructions(Section):
    """How a sequence is rendered as text, and the questions about it."""

    template: str = Field("behavior_card@1", description="the main question, used by evaluation and serving")
    auxiliary: tuple[Auxiliary, ...] = Field(
        (), description="further questions; a bare name@version is for all train users"
    )
    language: Literal["en", "zh"] = Field("en", description="language of question and answers")
    gap_unit: Literal["day", "month"] = Field("day", description="unit of the gaps between events in the text")
    season: Literal["none", "month", "weekday"] = Field("none", description="calendar word in every event line")
    time: Literal["gap", "date", "both"] = Field(
        "gap", description="gap since the previous event, calendar date, or both"
    )
    repeat_time: bool = Field(
        True,
        exclude_if=lambda value: value,
        description="false: an event without a gap to the one before it does not write its time again",
    )
    event_fields: tuple[EventField, ...] = Field(get_args(EventField), description="fields that an event line shows")
    counted_attributes: tuple[str, ...] = Field(
        (),
        exclude_if=lambda value: not value,
        description="attributes of events whose values the features count, each value like an event type: codes with "
        "few values, such as a channel",
    )
    currency: str | None = Field(
        None,
        pattern="^[A-Z]{3}$",
        description="main currency of the amounts (ISO 4217): the text names every other one, and features are counted "
        "per currency; without it, a source with several currencies is refused",
    )
    quantiles: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="bins of each number: amounts, days past due and numeric attributes and profile fields become the "
        "word of their bin; null: amounts are rounded to 1, 2 and 5",
    )
    recall: int = Field(
        0,
        ge=0,
        exclude_if=lambda value: value == 0,
        description="newest events of the asked loan that the line before the question repeats, without times; needs "
        "loan in event_fields",
    )
    profile: bool = Field(True, description="whether the profile is rendered before the question")
    max_events: Positive = Field(120, description="newest events kept; older complete calendar months are folded")

    @model_validator(mode="after")
    def _loan_to_recall(self) -> Self:
        if self.recall and "loan" not in self.event_fields:
            raise ValueError("recall repeats events of a loan: add loan to event_fields")
        return self

    @field_validator("counted_attributes")
    @classmethod
    def _sorted_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(names)))

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _named(cls, tasks: object) -> object:
        if not isinstance(tasks, list | tuple):
            return tasks
        return [{"template": task} if isinstance(task, str) else task for task in tasks]

    @field_validator("auxiliary")
    @classmethod
    def _no_duplicates(cls, tasks: tuple[Auxiliary, ...]) -> tuple[Auxiliary, ...]:
        if len({task.template for task in tasks}) != len(tasks):
            raise ValueError("expected no duplicate templates")
        return tasks
