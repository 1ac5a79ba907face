"""Answers computed from data known as of T, each in one fixed format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from zigong.instructions.render import Event, local_date, round_number, word
from zigong.instructions.template_files import EventAnswer, ProfileAnswer
from zigong.instructions.templates import Template

ANSWERED_FROM = ("event_type", "event_at", "amount", "currency")  # fields of the events


@dataclass(frozen=True, kw_only=True)
class Computed:
    """An answer, or the reason why there is none."""

    answer: str | None = None
    unanswered: str | None = None


def profile_answer(spec: ProfileAnswer, profile: Mapping[str, str], template: Template) -> Computed:
    """The word of a profile field, formatted as in a profile line."""
    value = profile.get(spec.field)
    return Computed(answer=word(value, template)) if value else Computed(unanswered="profile_field_is_unknown")


def event_answer(
    spec: EventAnswer,
    events: Sequence[Event],
    folded: int,
    on: date,
    *,
    max_events: int,
    zone: ZoneInfo,
    currency: str | None = None,
) -> Computed:
    """A number from the events of one type with a local date in ``[on - window_months, on)``.

    A count is written in digits; a sum or a largest amount is rounded as amounts in the text are, and is ~0 without
    events.

    Args:
        spec: event type, measure and window.
        events: the events that the prompt shows, chronological, as of T.
        folded: number of older events that it omits.
        on: the local date of T.
        max_events: largest number of events that a sequence keeps.
        currency: main currency of amounts, the only one that an answer is in; None: they have one currency.
    """
    first = months_before(on, spec.window_months)
    if folded and not _window_is_visible(events, first, max_events, zone):
        return Computed(unanswered="window_reaches_into_folded_events")
    found = [e for e in events if e["event_type"] == spec.event_type and first <= local_date(e["event_at"], zone) < on]
    if spec.measure == "count":
        return Computed(answer=str(len(found)))
    amounts = [amount for event in found if (amount := event.get("amount")) is not None]
    if len(amounts) < len(found):
        return Computed(unanswered="amount_is_unknown")
    stated = {event.get("currency") for event in found}
    if len(stated) > 1:
        return Computed(unanswered="several_currencies")
    if currency is not None and stated - {currency, None}:
        return Computed(unanswered="amount_in_another_currency")
    number = sum(amounts, Decimal(0)) if spec.measure == "sum" else max(amounts, default=Decimal(0))
    return Computed(answer=round_number(float(number)))


def months_before(day: date, months: int) -> date:
    """The same day of the month, ``months`` calendar months earlier; T is the first of a month."""
    count = day.year * 12 + day.month - 1 - months
    return date(count // 12, count % 12 + 1, day.day)


def _window_is_visible(events: Sequence[Event], first: date, max_events: int, zone: ZoneInfo) -> bool:
    """Whether every folded event is before ``first``.

    Months fold completely, so folded events are older than the month of the oldest visible event. The exception is a
    newest month with more than ``max_events`` events, which is folded in part.
    """
    if not events:
        return False
    oldest, newest = local_date(events[0]["event_at"], zone), local_date(events[-1]["event_at"], zone)
    cut_inside = len(events) >= max_events and oldest.replace(day=1) == newest.replace(day=1)
    return not cut_inside and oldest.replace(day=1) <= first
