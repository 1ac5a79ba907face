"""The events of many sequences as flat arrays, limited to what was known at each sequence's T."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Events:
    """The concatenated events of all sequences; every array has one row per event.

    Attributes:
        rows: number of sequences.
        row: index of the sequence of each event, ascending.
        type_code: index into ``types``.
        types: event types, sorted.
        counted_code: what an event counts as, indices into ``counted``, -1 for none; shape [events, 1 + attributes].
        counted: event types, and TYPE.ATTRIBUTE=VALUE of the counted attributes, sorted.
        days_past_due: NaN if the event has none.
        amount: 0 if the event has none.
        currency: index into ``currencies``.
        currencies: the main one, the only one and none are the empty string.
        event_at: microseconds since the epoch.
        months_back: calendar months from the event to T in the business time zone.
        loan: number of the event's loan within its sequence, 0 if it names none.
        is_other: whether the event is of another loan than the observed one.
    """

    rows: int
    row: Ints
    type_code: Ints
    types: tuple[str, ...]
    counted_code: Ints
    counted: tuple[str, ...]
    days_past_due: Floats
    amount: Floats
    currency: Ints
    currencies: tuple[str, ...]
    event_at: Ints
    months_back: Ints
    loan: Ints
    is_other: Flags

    def where(self, chosen: Flags) -> Events:
        """The chosen events of all sequences."""
        columns = [name for name, value in vars(self).items() if isinstance(value, np.ndarray)]
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


def flattened(sequences: pa.Table, timezone: str, currency: str | None, attributes: Sequence[str]) -> Events:
    """The events of all sequences that happened, and were known, before their T.

    Args:
        sequences: columns observation_at, events, event_loans and loan of user_sequences.
        timezone: business time zone, which determines the calendar month of an event.
        currency: main currency of amounts; None: they have one currency.
        attributes: attributes of events whose values are counted.

    Raises:
        DataError: amounts are in several currencies and none is the main.
    """
    every, observed = row_of_items(sequences["events"]), utc(sequences["observation_at"])
    moments = integers(observed.cast(pa.int64()))[every]
    flat = pc.list_flatten(sequences["events"])
    happened, known = (integers(utc(pc.struct_field(flat, name)).cast(pa.int64())) for name in ("event_at", "known_at"))
    before: Flags = (happened < moments) & (known < moments)
    row, kept = every[before], pa.array(np.flatnonzero(before))

    def field(name: str) -> pa.ChunkedArray:
        return pc.struct_field(flat, name).take(kept)

    loan, asked = _loans(sequences)[before], integers(pc.fill_null(sequences["loan"], 0))[row]
    event_types = field("event_type")
    codes, types = pd.factorize(event_types.to_pandas(), sort=True)
    counted_code, counted = _counted(event_types, [_worded(event_types, field, name) for name in attributes])
    amount = field("amount")
    stated, currencies = _currencies(field("currency"), amount, currency)
    return Events(
        rows=len(sequences),
        row=row,
        type_code=codes.astype(np.int64),
        types=tuple(str(name) for name in types),
        counted_code=counted_code,
        counted=counted,
        days_past_due=decimals(field("days_past_due")),
        amount=np.nan_to_num(decimals(amount)),
        currency=stated,
        currencies=currencies,
        event_at=happened[before],
        months_back=_month(observed, timezone)[row] - _month(utc(field("event_at")), timezone),
        loan=loan,
        is_other=(asked > 0) & (loan > 0) & (loan != asked),
    )


def _worded(event_types: pa.ChunkedArray, field: Callable[[str], pa.ChunkedArray], name: str) -> pa.ChunkedArray:
    """TYPE.ATTRIBUTE=VALUE of each event, null where it lacks the attribute."""
    values = pc.map_lookup(field("attributes"), name, "first")
    return pc.binary_join_element_wise(event_types, f".{name}=", values, "")


def _counted(event_types: pa.ChunkedArray, worded: Sequence[pa.ChunkedArray]) -> tuple[Ints, tuple[str, ...]]:
    columns = [column.to_pandas() for column in (event_types, *worded)]
    codes, words = pd.factorize(pd.concat(columns), sort=True)
    return codes.astype(np.int64).reshape(len(columns), -1).T, tuple(map(str, words))


def row_of_items(column: pa.ChunkedArray) -> Ints:
    """The row index of each item of a list column; a null list has no items."""
    lengths = integers(pc.fill_null(pc.list_value_length(column), 0))
    return np.repeat(np.arange(len(column)), lengths)


def utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps in microseconds, UTC."""
    return column.cast(pa.timestamp("us", tz="UTC"))


def integers(column: pa.ChunkedArray) -> Ints:
    """A column without nulls as int64."""
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _loans(sequences: pa.Table) -> Ints:
    return integers(pc.fill_null(pc.list_flatten(sequences["event_loans"]), 0))


def _currencies(column: pa.ChunkedArray, amount: pa.ChunkedArray, main: str | None) -> tuple[Ints, tuple[str, ...]]:
    """The currency of each event as an index, and the currencies; the main one, the only one and none are empty."""
    words = pc.if_else(pc.is_valid(amount), column, None).to_pandas()
    found = sorted(set(words.dropna()))
    if main is None and len(found) > 1:
        raise DataError(
            f"user_sequences has amounts in {', '.join(found)}, which cannot be added",
            action="set instructions.currency to the main one; the others are then counted apart",
        )
    others = [name for name in found if main is not None and name != main]
    codes = {name: number for number, name in enumerate(others, start=1)}
    return words.map(codes).fillna(0).to_numpy(dtype=np.int64), ("", *others)


def _month(column: pa.ChunkedArray, timezone: str) -> Ints:
    """Calendar month in the time zone, as a consecutive number."""
    local = column.cast(pa.timestamp("us", tz=timezone))
    return integers(pc.year(local)) * 12 + integers(pc.month(local))


def decimals(column: pa.ChunkedArray) -> Floats:
    """A column of numbers as float64; nulls become NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
