"""Histories of many sequences at once, in Arrow columns: every distinct line is rendered once.

Behaviour repeats itself: of a million events a few thousand lines differ. Everything a line depends on becomes a column
of whole numbers, equal combinations are found by comparing them, never by a hash alone, and one event of each is handed
to ``render_line``, which is also what renders a single user.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zigong.errors import DataError, InfraError
from zigong.instructions.render import Event, render_line, round_number
from zigong.instructions.templates import Template
from zigong.recipe import Instructions

Integers = npt.NDArray[np.int64]
ALWAYS = ("event_type", "event_at")
AMOUNT = pa.decimal128(18, 2)
LARGEST_AMOUNT = 10**18 - 1  # in hundredths
LAST_YEAR = 2037  # up to which the files of time zones list every change of clocks
EPOCH = date(1970, 1, 1).toordinal()
EPOCH_WEEKDAY = 3  # a Thursday


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of some sequences, one after the other.

    Attributes:
        columns: one row per event, at least in the columns of ``event_columns``.
        bounds: sequence i has the events from ``bounds[i]`` up to ``bounds[i + 1]``.
    """

    columns: pa.RecordBatch
    bounds: Integers

    def told(self, start: int, end: int, fields: Collection[str] | None = None) -> list[Event]:
        """The events of an interval as the row-at-a-time functions take them.

        Args:
            fields: read only these; None: all.
        """
        columns = self.columns if fields is None else self.columns.select(list(fields))
        rows: list[Event] = columns.slice(start, end - start).to_pylist()
        return rows


@dataclass(frozen=True, kw_only=True)
class Histories:
    """The rendered histories of some sequences.

    Attributes:
        events: what was rendered.
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
    return (*ALWAYS, *settings.event_fields)


def events_in(batch: pa.RecordBatch, fields: Collection[str]) -> Events:
    """The events of a batch of sequences.

    Args:
        batch: one list column per field; the lists of a row are parallel.
        fields: of an event, those of ``event_columns`` among them.

    Raises:
        DataError: a list is null, or the type or the time of an event.
    """
    lists = {name: batch[name] for name in fields}
    columns = pa.RecordBatch.from_pydict({name: column.flatten() for name, column in lists.items()})
    empty = [name for name, column in lists.items() if column.null_count]
    empty += [f"{name} of an event" for name in ALWAYS if columns[name].null_count]
    if empty:
        raise DataError(f"user_sequences.events: null found in {', '.join(empty)}", action="rebuild user_sequences")
    return Events(columns=columns, bounds=_bounds(pc.list_value_length(lists["event_at"]).to_numpy()))


def render_histories(events: Events, *, template: Template, settings: Instructions, zone: ZoneInfo) -> Histories:
    """Renders the line of every event after the one before it in its sequence.

    Equals ``render_history`` of each sequence, line for line.
    """
    days = local_days(events.columns["event_at"], zone)
    opens = np.zeros(len(days), dtype=bool)
    opens[events.bounds[:-1][np.diff(events.bounds) > 0]] = True
    previous = np.where(opens, days, np.roll(days, 1))
    codes = np.zeros(len(days), dtype=np.int64)
    for column in (*_when(previous, days, opens, settings), *_what(events.columns, settings)):
        codes = _combined(codes, column)
    examples = _first_positions(codes)
    told = events.columns.take(pa.array(examples)).to_pylist()
    lines = [
        render_line(
            None if opens[position] else local_date_of(int(previous[position])),
            local_date_of(int(days[position])),
            event,
            template=template,
            settings=settings,
        )
        for position, event in zip(examples, told, strict=True)
    ]
    return Histories(events=events, days=days, lines=lines, codes=codes)


def local_date_of(day: int) -> date:
    """The date of a number of days since 1970."""
    return date.fromordinal(EPOCH + day)


def months_of(days: Integers) -> Integers:
    """Calendar months since January 1970 of days since 1970."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def local_days(moments: pa.Array, zone: ZoneInfo) -> Integers:
    """Local dates as days since 1970; moments without a zone are UTC.

    Raises:
        DataError: a moment lies after ``LAST_YEAR``.
        InfraError: as ``_require_known_zone``.
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
    """Arrow knows the changes of clocks that the machine's files list, and no rule by which they go on.

    Raises:
        InfraError: it knows other ones than Python in some month up to ``LAST_YEAR``.
    """
    months = [datetime(year, month, 1, tzinfo=UTC) for year in range(1970, LAST_YEAR + 1) for month in range(1, 13)]
    known = pc.local_timestamp(pa.array(months, pa.timestamp("us", zone.key))).to_pylist()
    if known != [month.astimezone(zone).replace(tzinfo=None) for month in months]:
        raise InfraError(
            f"time zone {zone.key}: the machine's files do not list its changes of clocks up to {LAST_YEAR}",
            action="install the system package tzdata in its full (fat) form on every worker",
        )


def _when(previous: Integers, days: Integers, opens: npt.NDArray[np.bool_], settings: Instructions) -> list[Integers]:
    """What ``render_time`` depends on."""
    columns: list[Integers] = []
    months = months_of(days)
    if settings.time != "date":
        columns += [opens.astype(np.int64), days - previous, months - months_of(previous)]
    if settings.time != "gap":
        columns.append(days)
    if settings.season == "month":
        columns.append(months % 12)
    if settings.season == "weekday":
        columns.append((days + EPOCH_WEEKDAY) % 7)
    return columns


def _what(events: pa.RecordBatch, settings: Instructions) -> Iterator[Integers]:
    """What the rest of a line depends on."""
    yield _text_codes(events["event_type"])
    if "days_past_due" in settings.event_fields:
        yield events["days_past_due"].fill_null(0).to_numpy().astype(np.int64)
    if "amount" in settings.event_fields:
        yield _amount_codes(events["amount"])
    if "attributes" in settings.event_fields:
        yield _map_codes(events["attributes"])


def _amount_codes(amounts: pa.Array) -> Integers:
    """Equal numbers for amounts that ``round_number`` tells by one word; null is 0."""
    exact = amounts.cast(AMOUNT)
    hundredths = np.frombuffer(exact.buffers()[1], dtype=np.int64)[::2][exact.offset : exact.offset + len(exact)]
    codes = 1 + np.searchsorted(_amount_steps(), hundredths, side="right")
    return np.where(_valid(exact), codes, 0)


@cache
def _amount_steps() -> Integers:
    """The amounts in hundredths from which on ``round_number`` says another word: its words grow with the number."""

    def said(hundredths: int) -> str:
        return round_number(float(Decimal(hundredths).scaleb(-2)))

    steps, intervals = [], [(-LARGEST_AMOUNT, LARGEST_AMOUNT)]
    while intervals:
        low, high = intervals.pop()
        if said(low) == said(high):
            continue
        if high - low == 1:
            steps.append(high)
            continue
        middle = (low + high) // 2
        intervals += [(low, middle), (middle, high)]
    return np.array(sorted(steps), dtype=np.int64)


def _map_codes(maps: pa.MapArray) -> Integers:
    """Equal numbers for maps of equal entries in equal order; null is as an empty map.

    Entry by entry: a map's code after its entry p is that of the pair (code before, entry p).
    """
    starts = maps.offsets.to_numpy().astype(np.int64)
    entries = slice(int(starts[0]), int(starts[-1])) if len(starts) else slice(0, 0)
    pairs = _combined(_text_codes(maps.keys[entries]), _text_codes(maps.items[entries]))
    sizes = np.where(_valid(maps), np.diff(starts), 0)
    codes, used, entry = np.zeros(len(maps), dtype=np.int64), 1, 0
    left = np.flatnonzero(sizes)
    while len(left):
        found = _combined(codes[left], pairs[starts[left] - entries.start + entry])
        codes[left] = used + found
        used, entry = used + int(found.max()) + 1, entry + 1
        left = left[sizes[left] > entry]
    return codes


def _text_codes(texts: pa.Array) -> Integers:
    """Equal numbers for equal texts; null is 0."""
    indices: Integers = texts.dictionary_encode().indices.cast(pa.int64()).fill_null(-1).to_numpy()
    return indices + 1


def _codes(numbers: Integers) -> Integers:
    """Equal numbers for equal numbers, counted up from 0 in order of appearance."""
    codes: Integers = pa.array(numbers).dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _combined(left: Integers, right: Integers) -> Integers:
    """Equal numbers for equal pairs, counted up from 0 in order of appearance; ``left`` are codes already."""
    dense = _codes(right)
    return _codes(left * (int(dense.max(initial=0)) + 1) + dense)


def _first_positions(codes: Integers) -> Integers:
    """Where each code appears first."""
    first = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    valid: npt.NDArray[np.bool_] = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return valid


def _bounds(sizes: npt.NDArray[Any]) -> Integers:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
