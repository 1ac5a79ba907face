"""The questions of a recipe: the main one, the same about further horizons, and auxiliary ones for train users."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from zigong.errors import ConfigError
from zigong.instructions.template_files import EventAnswer
from zigong.instructions.templates import Question, Template, hashed, load_question, load_template
from zigong.recipe import Horizon, Instructions, Recipe


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The questions of a recipe.

    Attributes:
        main: the question that evaluation, gate and service use; it holds the choices of the other questions, so that
            rendered events contain none of them.
        auxiliary: the other questions, each with the share of the sequences that get it.
    """

    main: Template
    auxiliary: tuple[tuple[Question, float], ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        """All questions, the main one first."""
        return (self.main, *(question for question, _ in self.auxiliary))

    @property
    def choices(self) -> tuple[str, ...]:
        """The distinct choices of all questions."""
        return tuple(dict.fromkeys(choice for question in self.questions for choice in question.choices))

    @property
    def read_events(self) -> bool:
        """Whether any question is answered from events."""
        return any(isinstance(question.answer, EventAnswer) for question in self.questions)

    def auxiliary_of(self, sequence_id: str) -> list[Question]:
        """The auxiliary questions of a sequence, selected by a hash of question and sequence."""
        return [
            question
            for question, share in self.auxiliary
            if hashed(f"share|{question.name}|{sequence_id}") < share * 2**32
        ]


@cache
def load_tasks(settings: Instructions) -> Tasks:
    """The questions that a recipe names.

    Raises:
        ConfigError: a template does not exist or is listed twice; an auxiliary question has the task of the main one;
            or a question needs amounts that the text does not contain.
    """
    main = load_template(settings.template, settings.language)
    auxiliary = [load_question(item.template, settings.language) for item in settings.auxiliary]
    for question in auxiliary:
        _require_possible(question, main, settings)
    guarded = tuple(choice for question in auxiliary for choice in question.choices)
    shares = [item.share for item in settings.auxiliary]
    return Tasks(main=replace(main, guarded=guarded), auxiliary=tuple(zip(auxiliary, shares, strict=True)))


def main_task(recipe: Recipe) -> str:
    """The task that a recipe's model is evaluated and used on."""
    return load_tasks(recipe.instructions).main.task


def further_question(main: Template, horizon: Horizon) -> Template:
    """The main question about a further horizon: the same texts and choices, and a task of its own."""
    return replace(main, task=f"{main.name.partition('@')[0]}_{horizon.name}")


def horizons_of_tasks(recipe: Recipe) -> dict[str, Horizon]:
    """The further horizons of a recipe by the task of their question; every other task has the first horizon."""
    main = load_tasks(recipe.instructions).main
    return {further_question(main, horizon).task: horizon for horizon in recipe.labels.further}


def _require_possible(question: Question, main: Template, settings: Instructions) -> None:
    if question.task == main.task:
        raise ConfigError(
            f"instructions.auxiliary: {question.name} has the task {main.task!r} of the main question {main.name}",
            action="name only questions of other tasks; the main question is instructions.template",
        )
    amounts = isinstance(question.answer, EventAnswer) and question.answer.measure != "count"
    if amounts and "amount" not in settings.event_fields:
        raise ConfigError(
            f"instructions.auxiliary: {question.name} asks for amounts, which instructions.event_fields leaves out",
            action="add amount to instructions.event_fields, or ask something else",
        )
