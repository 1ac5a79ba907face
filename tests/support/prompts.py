"""A prompt about one client, from the functions that render its history and its branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import Event, local_date, render_branch, render_history
from zigong.instructions.templates import Template
from zigong.recipe import Horizon, Instructions


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The lines of a prompt: its history, then its branch."""

    history: tuple[str, ...]
    branch: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """All lines in order."""
        return (*self.history, *self.branch)

    @property
    def text(self) -> str:
        """The prompt."""
        return "\n".join(self.lines)


def render_prompt(
    events: Sequence[Event],
    profile: Mapping[str, str],
    folded: int,
    observation_at: datetime,
    *,
    template: Template,
    settings: Instructions,
    horizon: Horizon,
    zone: ZoneInfo,
) -> Rendered:
    """Renders a sequence and the question about it.

    Args:
        events: events in chronological order, all before T.
        profile: words of the profile as of T.
        folded: number of events folded by the history policy.
        observation_at: T, aware or naive UTC.
    """
    history = render_history(events, template=template, settings=settings, zone=zone)
    last = local_date(events[-1]["event_at"], zone) if events else None
    on, question = local_date(observation_at, zone), template.ask(horizon)
    branch = render_branch(last, on, folded, profile, question, template=template, settings=settings)
    return Rendered(history=tuple(history), branch=branch)


def encoded_prompt(encoder: LineEncoder, text: str) -> list[int]:
    """Ids of a complete rendered prompt."""
    *before, question = text.split("\n")
    return [*encoder.history(before), *encoder.branch([question])]
