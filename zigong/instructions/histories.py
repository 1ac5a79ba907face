"""Renders the histories of many sequences at once, in Arrow columns: every distinct line is rendered once.

Events repeat: a million events have a few thousand distinct lines. Everything a line depends on is encoded as a column
of integers, equal combinations are found by comparing them (never by a hash alone), and one event of each combination
is passed to ``render_line``, which also renders a single user.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zigong.errors import DataError, InfraError
from zigong.instructions.codes import Integers, combined, first_positions, text_codes
from zigong.instructions.number_codes import (
    amount_codes,
    attribute_codes,
    currency_codes,
    day_codes,
    names_currencies,
)
from zigong.instructions.numbers import NumberWords
from zigong.instructions.render import Event, render_line
from zigong.instructions.templates import Template
from zigong.recipe import Instructions

ALWAYS = ("event_type", "event_at")
LAST_YEAR = 2037  # last year for which time zone files list every clock change
EPOCH = date(1970, 1, 1).toordinal()
EPOCH_WEEKDAY = 3  # a Thursday


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of several sequences, concatenated.

    Attributes:
        columns: one row per event, with at least the columns of ``event_columns``.
        bounds: sequence i has the events ``bounds[i]`` (included) to ``bounds[i + 1]`` (excluded).
    """

    columns: pa.RecordBatch
    bounds: Integers

    def rows(self, start: int, end: int, fields: Collection[str] | None = None) -> list[Event]:
        """The events of an interval as rows, for functions that process one event at a time.

        Args:
            fields: read only these; None: all.
        """
        columns = self.columns if fields is None else self.columns.select(list(fields))
        events: list[Event] = columns.slice(start, end - start).to_pylist()
        return events

    def newest_of_loan(self, start: int, end: int, loan: int, most: int) -> list[Event]:
        """The newest events of a loan in an interval, oldest first.

        Args:
            start: first event of the interval.
            end: event after the last one.
            loan: number of the loan.
            most: largest number of events.
        """
        own = start + np.flatnonzero(self._loans[start:end] == loan)[-most:]
        events: list[Event] = self.columns.take(pa.array(own)).to_pylist()
        return events

    @cached_property
    def _loans(self) -> Integers:
        loans: Integers = self.columns["loan"].fill_null(0).to_numpy().astype(np.int64)
        return loans


@dataclass(frozen=True, kw_only=True)
class Histories:
    """The rendered histories of several sequences.

    Attributes:
        events: the rendered events.
        days: local date of each event, in days since 1970.
        lines: the distinct lines.
        codes: the line of each event, as an index of ``lines``.
    """

    events: Events
    days: Integers
    lines: list[str]
    codes: Integers


def event_columns(settings: Instructions) -> tuple[str, ...]:
    """The fields of an event that its line depends on."""
    return (*ALWAYS, *settings.event_fields, *(("currency",) if names_currencies(settings) else ()))


def events_in(batch: pa.RecordBatch, fields: Collection[str]) -> Events:
    """The events of a batch of sequences.

    Args:
        batch: one list column per field; the lists of a row are parallel.
        fields: event fields, including those of ``event_columns``.

    Raises:
        DataError: a list, or the type or time of an event, is null.
    """
    lists = {name: batch[name] for name in fields}
    columns = pa.RecordBatch.from_pydict({name: column.flatten() for name, column in lists.items()})
    empty = [name for name, column in lists.items() if column.null_count]
    empty += [f"{name} of an event" for name in ALWAYS if columns[name].null_count]
    if empty:
        raise DataError(f"user_sequences.events: null found in {', '.join(empty)}", action="rebuild user_sequences")
    return Events(columns=columns, bounds=_bounds(pc.list_value_length(lists["event_at"]).to_numpy()))


def render_histories(
    events: Events,
    *,
    template: Template,
    settings: Instructions,
    zone: ZoneInfo,
    numbers: NumberWords | None = None,
) -> Histories:
    """Renders the line of every event, given the previous event of its sequence.

    The result equals ``render_history`` of each sequence, line by line.
    """
    days = local_days(events.columns["event_at"], zone)
    opens = np.zeros(len(days), dtype=bool)
    opens[events.bounds[:-1][np.diff(events.bounds) > 0]] = True
    previous = np.where(opens, days, np.roll(days, 1))
    codes = np.zeros(len(days), dtype=np.int64)
    for column in (*_when(previous, days, opens, settings), *_what(events.columns, settings, numbers)):
        codes = combined(codes, column)
    examples = first_positions(codes)
    rows = events.columns.take(pa.array(examples)).to_pylist()
    lines = [
        render_line(
            None if opens[position] else local_date_of(int(previous[position])),
            local_date_of(int(days[position])),
            event,
            template=template,
            settings=settings,
            numbers=numbers,
        )
        for position, event in zip(examples, rows, strict=True)
    ]
    return Histories(events=events, days=days, lines=lines, codes=codes)


def local_date_of(day: int) -> date:
    """The date that is ``day`` days after 1 January 1970."""
    return date.fromordinal(EPOCH + day)


def months_of(days: Integers) -> Integers:
    """Converts days since 1970 to calendar months since January 1970."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def local_days(moments: pa.Array, zone: ZoneInfo) -> Integers:
    """Local dates as days since 1970; moments without a zone are UTC.

    Raises:
        DataError: a moment is after ``LAST_YEAR``.
        InfraError: see ``_require_known_zone``.
    """
    utc = moments.cast(pa.timestamp("us"))
    newest = pc.max(pc.year(utc)).as_py()
    if newest is not None and newest > LAST_YEAR:
        raise DataError(
            f"user_sequences.events: expected event_at up to the year {LAST_YEAR}, found {newest}",
            action="correct the times of the source",
        )
    _require_known_zone(zone)
    local = pc.local_timestamp(utc.cast(pa.timestamp("us", zone.key)))
    days: Integers = local.cast(pa.date32(), safe=False).cast(pa.int32()).to_numpy().astype(np.int64)
    return days


@cache
def _require_known_zone(zone: ZoneInfo) -> None:
    """Checks that Arrow and Python agree on a time zone; Arrow reads only the clock changes that system files list.

    Raises:
        InfraError: the two differ in some month up to ``LAST_YEAR``.
    """
    months = [datetime(year, month, 1, tzinfo=UTC) for year in range(1970, LAST_YEAR + 1) for month in range(1, 13)]
    known = pc.local_timestamp(pa.array(months, pa.timestamp("us", zone.key))).to_pylist()
    if known != [month.astimezone(zone).replace(tzinfo=None) for month in months]:
        raise InfraError(
            f"time zone {zone.key}: the system's files do not list its clock changes up to {LAST_YEAR}",
            action="install the system package tzdata in its full (fat) form on every worker",
        )


def _when(previous: Integers, days: Integers, opens: npt.NDArray[np.bool_], settings: Instructions) -> list[Integers]:
    """The columns that the time of a line depends on."""
    columns: list[Integers] = []
    months = months_of(days)
    if settings.time != "date" or not settings.repeat_time:
        columns += [opens.astype(np.int64), days - previous, months - months_of(previous)]
    if settings.time != "gap":
        columns.append(days)
    if settings.season == "month":
        columns.append(months % 12)
    if settings.season == "weekday":
        columns.append((days + EPOCH_WEEKDAY) % 7)
    return columns


def _what(events: pa.RecordBatch, settings: Instructions, numbers: NumberWords | None) -> Iterator[Integers]:
    """The columns that the rest of a line depends on."""
    yield text_codes(events["event_type"])
    if "loan" in settings.event_fields:
        yield events["loan"].fill_null(0).to_numpy().astype(np.int64)
    if "days_past_due" in settings.event_fields:
        yield day_codes(events["days_past_due"], numbers)
    if "amount" in settings.event_fields:
        yield amount_codes(events, settings, numbers)
    if (currencies := currency_codes(events, settings)) is not None:
        yield currencies
    if "attributes" in settings.event_fields:
        yield attribute_codes(events["attributes"], numbers)


def _bounds(sizes: npt.NDArray[Any]) -> Integers:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
