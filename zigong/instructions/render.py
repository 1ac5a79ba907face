"""Renders a sequence as text; Spark, pre-training and the service all use these pure functions.

The text is chronological. Time is written as the gap since the previous event, as a date, or as both; it never depends
on T, so the samples of one user share a prefix. Lines that depend on T are at the end and begin with the gap to T, as
the next event would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from math import floor, log10
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

from zigong.instructions.numbers import NumberWords
from zigong.instructions.templates import Template
from zigong.recipe import Instructions

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CENTURIES, DIGITS = ("19", "20"), tuple("0123456789")
DAYS_OF_MONTH = tuple(f"{day:02}" for day in range(1, 32))
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DAYS_BEFORE_MONTHS = 60  # longer gaps are written in months: a word for every number of days would be too rare to learn
WORD_LENGTH = 40
READ_OF_A_VALUE = 400  # characters; values may be of any size
_NOT_A_WORD = re.compile(r"[^\w.+\-]+")


class Event(TypedDict, total=False):
    """One event of a sequence, as stored in the table."""

    event_type: str
    event_at: datetime
    days_past_due: int | None
    amount: Decimal | None
    currency: str | None
    attributes: Mapping[str, str] | Sequence[tuple[str, str]] | None
    loan: int | None  # number of the loan where the client has several


def render_branch(
    last: date | None,
    on: date,
    folded: int,
    profile: Mapping[str, str],
    question: str,
    *,
    template: Template,
    settings: Instructions,
    loan: int | None = None,
    recalled: Sequence[Event] = (),
    numbers: NumberWords | None = None,
) -> tuple[str, ...]:
    """The lines that follow a history: the gap to T, the number of folded events, the profile, the loan, one question.

    Every question about a sequence has its own branch, which follows the same history.

    Args:
        last: local date of the newest event of the history; None: it has no event.
        on: local date of T.
        loan: number of the loan that the question is about; None where the client is, or has no other loan.
        recalled: newest events of this loan, which its line repeats without time and loan.
        numbers: bins of numbers; None: numbers are rounded.
    """
    branch = [render_time(last, on, template=template, settings=settings)]
    if folded:
        branch.append(template.summary.format(folded=round_number(folded)))
    if settings.profile and profile:
        words = " ".join(f"{word(key, template)}={word(profile[key], template)}" for key in sorted(profile))
        branch.append(template.profile.format(words=words))
    if loan is not None:
        again = [_without_time({**event, "loan": None}, template, settings, numbers) for event in recalled]
        branch.append(" ".join((asked_line(loan), *again)))
    return (*branch, question)


def render_history(
    events: Sequence[Event],
    *,
    template: Template,
    settings: Instructions,
    zone: ZoneInfo,
    numbers: NumberWords | None = None,
) -> list[str]:
    """One line per event, each given the date of the previous event."""
    days = [local_date(event["event_at"], zone) for event in events]
    return [
        render_line(previous, day, event, template=template, settings=settings, numbers=numbers)
        for previous, day, event in zip([None, *days], days, events, strict=False)
    ]


def render_line(
    previous: date | None,
    day: date,
    event: Event,
    *,
    template: Template,
    settings: Instructions,
    numbers: NumberWords | None = None,
) -> str:
    """An event on the local date ``day``: when, what happened, then the fields the recipe names.

    With ``repeat_time: false`` an event in the same month or on the same day as the previous one has no time.

    Args:
        previous: local date of the previous event; None for the first event.
        numbers: bins of numbers; None: numbers are rounded.
    """
    known = not settings.repeat_time and previous is not None and _gap(previous, day, settings.gap_unit)[:2] == "+0"
    when = [] if known else [render_time(previous, day, template=template, settings=settings)]
    return " ".join((*when, _without_time(event, template, settings, numbers)))


def _without_time(event: Event, template: Template, settings: Instructions, numbers: NumberWords | None) -> str:
    return " ".join((word(event["event_type"], template), *_fields(event, template, settings, numbers)))


def render_time(previous: date | None, day: date, *, template: Template, settings: Instructions) -> str:
    """The time of an event: the gap to the previous date, the date itself or both, with the season if configured."""
    gap = template.start if previous is None else _gap(previous, day, settings.gap_unit)
    dated = _date_words(day, settings.gap_unit)
    words = {"gap": [gap], "date": dated, "both": [gap, *dated]}[settings.time]
    if settings.season == "month" and settings.time == "gap":
        words.append(MONTHS[day.month - 1])
    if settings.season == "weekday":
        words.append(WEEKDAYS[day.weekday()])
    return " ".join(words)


def words_of_dates(settings: Instructions) -> list[str]:
    """Every word that dates from 1900 to 2099 are made of; empty if the text has no dates."""
    if settings.time == "gap":
        return []
    days = DAYS_OF_MONTH if settings.gap_unit == "day" else ()
    return [*CENTURIES, *DIGITS, *MONTHS, *days]


def _date_words(day: date, unit: str) -> list[str]:
    """A date in words that every year repeats: century, two digits, month and day."""
    century, year = divmod(day.year, 100)
    words = [f"{century:02}", *f"{year:02}", MONTHS[day.month - 1]]
    return words if unit == "month" else [*words, f"{day.day:02}"]


def local_date(moment: datetime, zone: ZoneInfo) -> date:
    """The date of a moment in the business time zone; naive moments are UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo("UTC"))
    return aware.astimezone(zone).date()


def word(text: str, template: Template) -> str:
    """One word without white space, brackets or colons: behaviour text cannot change the structure of a prompt.

    A choice of the template gets an underscore, so that a merchant named Yes reveals nothing about the answer.
    """
    bare = _NOT_A_WORD.sub("_", text[:READ_OF_A_VALUE])[:WORD_LENGTH] or "_"
    return template.choice_in_text.sub(r"\g<0>_", bare)


def round_number(number: float) -> str:
    """Rounds a number to the 1-2-5 series, so that amounts are frequent words: 350 -> ~500, -1234 -> -~1k."""
    if number == 0:
        return "~0"
    scale = 10.0 ** floor(log10(abs(number)))
    leading = min((1, 2, 5, 10), key=lambda step: abs(log10(step * scale / abs(number))))
    value = leading * scale
    sign = "-" if number < 0 else ""
    for unit, name in ((1e9, "g"), (1e6, "m"), (1e3, "k")):
        if value >= unit:
            return f"{sign}~{value / unit:g}{name}"
    return f"{sign}~{value:g}"


def loan_word(number: int) -> str:
    """The name of a client's loan by its number from 1, one word: loan_a, ..., loan_z, loan_aa, loan_ab."""
    letters = ""
    while number:
        number, letter = divmod(number - 1, len(LETTERS))
        letters = LETTERS[letter] + letters
    return f"loan_{letters}"


def asked_line(number: int) -> str:
    """The line that names the loan a question is about, in the words of the events and not of a language."""
    return f"asked {loan_word(number)}"


def _gap(previous: date, day: date, unit: str) -> str:
    months = (day.year - previous.year) * 12 + day.month - previous.month
    days = (day - previous).days
    return f"+{months}mo" if unit == "month" or days > DAYS_BEFORE_MONTHS else f"+{days}d"


def _fields(event: Event, template: Template, settings: Instructions, numbers: NumberWords | None) -> list[str]:
    words: list[str] = []
    late, amount, attributes = event.get("days_past_due"), event.get("amount"), event.get("attributes")
    if "loan" in settings.event_fields and (loan := event.get("loan")) is not None:
        words.append(loan_word(loan))
    if "days_past_due" in settings.event_fields and numbers is None and late:
        words.append(f"dpd{late}")
    if "days_past_due" in settings.event_fields and numbers is not None and late is not None:
        words.append(f"dpd{numbers.days_past_due(late)}")
    if "amount" in settings.event_fields and amount is not None:
        words += _amount(amount, event, template, settings, numbers)
    if "attributes" in settings.event_fields and attributes:
        pairs: Any = attributes.items() if isinstance(attributes, Mapping) else attributes
        binned = [(key, value, numbers and numbers.attribute(key, value)) for key, value in sorted(pairs)]
        words += [f"{word(key, template)}={binned_word or word(value, template)}" for key, value, binned_word in binned]
    return words


def _amount(
    amount: Decimal, event: Event, template: Template, settings: Instructions, numbers: NumberWords | None
) -> list[str]:
    """The word of an amount, followed by its currency if that is not the main one."""
    stated = event.get("currency")
    foreign = stated if settings.currency is not None and stated != settings.currency else None
    figure = (
        round_number(float(amount)) if numbers is None else numbers.amount(amount, event["event_type"], foreign or "")
    )
    return [figure] if foreign is None else [figure, word(foreign, template)]
