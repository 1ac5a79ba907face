"""One history, several branches: every question about a sequence stands behind the same lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from zigong.instructions.computed import Computed, event_answer, profile_answer
from zigong.instructions.render import Event, render_branch
from zigong.instructions.template_files import EventAnswer, LabelAnswer, ProfileAnswer
from zigong.instructions.templates import Question, Template
from zigong.recipe import Horizon, Instructions


@dataclass(frozen=True, kw_only=True)
class Told:
    """A sequence as its prompts tell it, the same for every question.

    Attributes:
        events: the events that are told; ``folded`` older ones are not.
        history: their lines; ``history_ids`` are the lines' token ids.
        gap: the line from the last event to T.
        on: the local date of T.
    """

    events: Sequence[Event]
    folded: int
    history: tuple[str, ...]
    history_ids: Sequence[int]
    gap: str
    on: date


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
    told: Told,
    profile: Mapping[str, str],
    sequence_id: str,
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
    match question.answer:
        case ProfileAnswer() as asked:
            computed: Computed | None = profile_answer(asked, profile, template)
            profile = {name: value for name, value in profile.items() if name != asked.field}
        case EventAnswer() as asked:
            computed = event_answer(asked, told.events, told.folded, told.on, max_events=settings.max_events, zone=zone)
        case LabelAnswer():
            computed = None
    phrasing = question.phrasing_of(sequence_id)
    line = question.ask(horizon, phrasing)
    lines = render_branch(told.gap, told.folded, profile, line, template=template, settings=settings)
    return Branch(question=question, phrasing=phrasing, lines=lines, computed=computed)
