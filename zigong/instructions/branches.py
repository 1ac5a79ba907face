"""One history, several branches: every question about a sequence follows the same history lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from zoneinfo import ZoneInfo

from zigong.instructions.computed import Computed, event_answer, profile_answer
from zigong.instructions.numbers import NumberWords
from zigong.instructions.render import Event, render_branch
from zigong.instructions.template_files import EventAnswer, LabelAnswer, ProfileAnswer
from zigong.instructions.templates import Question, Template
from zigong.recipe import Horizon, Instructions


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The data of a sequence other than its events.

    Attributes:
        on: local date of T.
        profile: words of the profile as of T.
        folded: older events that the history policy left out.
        loan: number of the loan asked about; None where the client is, or has no other loan.
    """

    sequence_id: str
    on: date
    profile: Mapping[str, str]
    folded: int
    loan: int | None = None


@dataclass(frozen=True, kw_only=True)
class VisibleHistory:
    """The part of a history that the prompts of a sequence show, the same for every question.

    Attributes:
        last: local date of the newest event; None: no event is shown.
        folded: number of older events omitted so that the main prompt fits the context.
        read: returns the visible events, with the fields that answers are computed from.
        recall: returns the newest visible events of a loan, oldest first: number of the loan, largest number of events.
    """

    last: date | None
    folded: int
    read: Callable[[], Sequence[Event]]
    recall: Callable[[int, int], Sequence[Event]]

    @cached_property
    def events(self) -> Sequence[Event]:
        """The visible events; read once, and only if a question is answered from them."""
        return self.read()


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One question that follows a history.

    Attributes:
        horizon: what the question asks about the future.
        phrasing: index of the phrasing.
        lines: from the gap to T to the question.
        computed: the answer computed from data known as of T; None if the label determines it.
    """

    question: Question
    horizon: Horizon
    phrasing: int
    lines: tuple[str, ...]
    computed: Computed | None


def branch_of(
    question: Question,
    visible: VisibleHistory,
    observed: Observed,
    *,
    template: Template,
    settings: Instructions,
    horizon: Horizon,
    zone: ZoneInfo,
    numbers: NumberWords | None = None,
) -> Branch:
    """The branch of a question; the profile line omits a profile field that the question asks about.

    Args:
        template: the main template, which provides the lines around every question.
        numbers: bins of numbers; None: numbers are rounded.
    """
    profile, folded = observed.profile, observed.folded + visible.folded
    match question.answer:
        case ProfileAnswer() as spec:
            computed: Computed | None = profile_answer(spec, profile, template)
            profile = {name: value for name, value in profile.items() if name != spec.field}
        case EventAnswer() as spec:
            computed = event_answer(
                spec,
                visible.events,
                folded,
                observed.on,
                max_events=settings.max_events,
                zone=zone,
                currency=settings.currency,
            )
        case LabelAnswer():
            computed = None
    phrasing = question.phrasing_of(observed.sequence_id)
    line = question.ask(horizon, phrasing)
    recalled = observed.loan is not None and settings.recall > 0
    lines = render_branch(
        visible.last,
        observed.on,
        folded,
        profile,
        line,
        template=template,
        settings=settings,
        loan=observed.loan,
        recalled=visible.recall(observed.loan or 0, settings.recall) if recalled else (),
        numbers=numbers,
    )
    return Branch(question=question, horizon=horizon, phrasing=phrasing, lines=lines, computed=computed)
