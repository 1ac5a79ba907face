"""One history, several branches: every question about a sequence stands behind the same lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from zoneinfo import ZoneInfo

from zigong.instructions.computed import Computed, event_answer, profile_answer
from zigong.instructions.render import Event, render_branch
from zigong.instructions.template_files import EventAnswer, LabelAnswer, ProfileAnswer
from zigong.instructions.templates import Question, Template
from zigong.recipe import Horizon, Instructions


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A sequence apart from its events.

    Attributes:
        on: local date of T.
        profile: words of the profile as of T.
        folded: older events that the history policy left out.
    """

    sequence_id: str
    on: date
    profile: Mapping[str, str]
    folded: int


@dataclass(frozen=True, kw_only=True)
class VisibleHistory:
    """The part of a history that the prompts of a sequence tell, the same for every question.

    Attributes:
        last: local date of the newest event; None: no event is told.
        folded: older events of the sequence that are not told, so that its main prompt fits the context.
        read: the events that are told, with the fields that answers are computed from.
    """

    last: date | None
    folded: int
    read: Callable[[], Sequence[Event]]

    @cached_property
    def events(self) -> Sequence[Event]:
        """The events that are told; read once, and only where a question is answered from them."""
        return self.read()


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One question behind a history.

    Attributes:
        phrasing: index of the wording.
        lines: from the gap to T to the question.
        computed: the answer known as of T; None where the label gives it.
    """

    question: Question
    phrasing: int
    lines: tuple[str, ...]
    computed: Computed | None


def branch_of(
    question: Question,
    told: VisibleHistory,
    observed: Observed,
    *,
    template: Template,
    settings: Instructions,
    horizon: Horizon,
    zone: ZoneInfo,
) -> Branch:
    """The branch of a question; a profile field that is asked for is left out of its profile line.

    Args:
        template: the main template, which words the lines around every question.
    """
    profile, folded = observed.profile, observed.folded + told.folded
    match question.answer:
        case ProfileAnswer() as asked:
            computed: Computed | None = profile_answer(asked, profile, template)
            profile = {name: value for name, value in profile.items() if name != asked.field}
        case EventAnswer() as asked:
            computed = event_answer(asked, told.events, folded, observed.on, max_events=settings.max_events, zone=zone)
        case LabelAnswer():
            computed = None
    phrasing = question.phrasing_of(observed.sequence_id)
    line = question.ask(horizon, phrasing)
    lines = render_branch(told.last, observed.on, folded, profile, line, template=template, settings=settings)
    return Branch(question=question, phrasing=phrasing, lines=lines, computed=computed)
