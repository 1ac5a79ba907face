"""Conventional scorecard features, computed from the same sequences that the language model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LAGS = 12
WINDOW_MONTHS = (3, 6, 12)
AMOUNT_WINDOW_MONTHS = 3
NO_STATUS = "-"  # not a valid name of an event type
SEQUENCE_COLUMNS = ("observation_at", "profile", "events", "event_loans", "loans", "loan")
OTHER = "other_"  # prefix of the features of the client's other loans
_MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class _Events:
    """The concatenated events of all sequences; every array has shape [events]."""

    rows: int
    row: Ints  # index of the sequence of each event
    type_code: Ints  # index into types
    types: tuple[str, ...]
    days_past_due: Floats  # NaN if the event has none
    amount: Floats  # 0 if the event has none
    currency: Ints  # index into currencies
    currencies: tuple[str, ...]  # the main one is empty
    event_at: Ints  # microseconds since the epoch
    months_back: Ints  # calendar months from the event to T in the business time zone
    is_other: NDArray[np.bool_]  # whether the event is of another loan than the observed one

    def where(self, chosen: NDArray[np.bool_]) -> _Events:
        """The chosen events of all sequences."""
        named = ("row", "type_code", "days_past_due", "amount", "currency", "event_at", "months_back", "is_other")
        return replace(self, **{name: getattr(self, name)[chosen] for name in named})


def baseline_features(
    sequences: pa.Table, outcome_events: Sequence[str], timezone: str, currency: str | None = None
) -> pd.DataFrame:
    """Features of each sequence, in the order of the table.

    ``status_lag_k`` and ``dpd_lag_k`` describe the k-th last outcome event; ``count_EVENT_wm``, ``max_dpd_wm`` and
    ``amount_EVENT_3m`` cover the last w calendar months; ``months_of_history``, ``gap_days`` and ``outcome_gap_days``
    measure the length and the recency of the history; ``profile_KEY`` is a value of the profile. Amounts of another
    currency than the main one have columns of their own, such as ``amount_EVENT_USD_3m``.

    Where a loan is observed, these describe its events and those that name no loan, except ``months_of_history`` and
    ``gap_days``, which are the client's. ``loans`` is the number of the client's loans; ``other_count_EVENT_wm``,
    ``other_max_dpd_wm`` and ``other_amount_EVENT_3m`` cover the other ones.

    Args:
        sequences: rows of user_sequences, with SEQUENCE_COLUMNS.
        outcome_events: event types that state a repayment status.
        timezone: business time zone, which determines the calendar month of an event.
        currency: main currency of amounts; None: they have one currency.

    Raises:
        DataError: a column is missing, the table is empty, or amounts are in several currencies and none is the main.
    """
    missing = [name for name in SEQUENCE_COLUMNS if name not in sequences.column_names]
    if missing or not sequences.num_rows:
        raise DataError(
            f"expected rows with {', '.join(SEQUENCE_COLUMNS)}, found {sequences.num_rows} rows "
            f"and missing columns: {', '.join(missing) or 'none'}",
            action="read user_sequences with these columns",
        )
    observed = _utc(sequences["observation_at"])
    every = _flattened(sequences["events"], observed, timezone, _of_other_loans(sequences), currency)
    events = every.where(~every.is_other)
    is_outcome = np.isin(events.type_code, [i for i, name in enumerate(events.types) if name in set(outcome_events)])
    parts = [
        _lags(events, is_outcome),
        _counts(events),
        _arrears(events),
        _amounts(events),
        _freshness(every, events.where(is_outcome), _integers(observed.cast(pa.int64()))),
        *([_other_loans(every, sequences["loans"])] if sequences["loan"].null_count < len(sequences) else []),
        _profiles(sequences["profile"]),
    ]
    return pd.concat(parts, axis=1)


def _of_other_loans(sequences: pa.Table) -> NDArray[np.bool_]:
    """For each event, whether it names another loan than the observed one; false where a client is observed."""
    row = _row_of_items(sequences["event_loans"])
    loan = _integers(pc.fill_null(pc.list_flatten(sequences["event_loans"]), 0))
    asked = _integers(pc.fill_null(sequences["loan"], 0))[row]
    is_other: NDArray[np.bool_] = (asked > 0) & (loan > 0) & (loan != asked)
    return is_other


def _other_loans(every: _Events, loans: pa.ChunkedArray) -> pd.DataFrame:
    """The windows of the client's other loans, and the number of all loans."""
    others = every.where(every.is_other)
    windows = pd.concat([_counts(others), _arrears(others), _amounts(others)], axis=1)
    return windows.add_prefix(OTHER).assign(loans=_integers(loans).astype(np.float64))


def _flattened(
    column: pa.ChunkedArray,
    observed: pa.ChunkedArray,
    timezone: str,
    is_other: NDArray[np.bool_],
    currency: str | None,
) -> _Events:
    row = _row_of_items(column)
    flat = pc.list_flatten(column)
    codes, types = pd.factorize(pc.struct_field(flat, "event_type").to_pandas(), sort=True)
    event_at, amount = _utc(pc.struct_field(flat, "event_at")), pc.struct_field(flat, "amount")
    stated, currencies = _currencies(pc.struct_field(flat, "currency"), amount, currency)
    return _Events(
        rows=len(column),
        row=row,
        type_code=codes.astype(np.int64),
        types=tuple(str(name) for name in types),
        days_past_due=_decimal(pc.struct_field(flat, "days_past_due")),
        amount=np.nan_to_num(_decimal(amount)),
        currency=stated,
        currencies=currencies,
        event_at=_integers(event_at.cast(pa.int64())),
        months_back=_month(observed, timezone)[row] - _month(event_at, timezone),
        is_other=is_other,
    )


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


def _lags(events: _Events, is_outcome: NDArray[np.bool_]) -> pd.DataFrame:
    row, code = events.row[is_outcome], events.type_code[is_outcome]
    per_row = np.bincount(row, minlength=events.rows)
    lag = np.cumsum(per_row)[row] - np.arange(len(row))  # 1 = last outcome of its row
    near = lag <= LAGS
    categories = pd.Index([*events.types, NO_STATUS])
    status = np.full((events.rows, LAGS), len(events.types), dtype=np.int64)
    status[row[near], lag[near] - 1] = code[near]
    dpd = np.full((events.rows, LAGS), np.nan)
    dpd[row[near], lag[near] - 1] = events.days_past_due[is_outcome][near]
    words = {f"status_lag_{k + 1}": pd.Categorical.from_codes(status[:, k], categories) for k in range(LAGS)}
    return pd.DataFrame({**words, **{f"dpd_lag_{k + 1}": dpd[:, k] for k in range(LAGS)}})


def _counts(events: _Events) -> pd.DataFrame:
    columns: dict[str, Floats] = {}
    for window in WINDOW_MONTHS:
        counts = _per_type(events, events.months_back <= window, None)
        columns |= {f"count_{name}_{window}m": counts[:, code] for code, name in enumerate(events.types)}
    return pd.DataFrame(columns, index=range(events.rows), dtype=np.float32)


def _amounts(events: _Events) -> pd.DataFrame:
    columns: dict[str, Floats] = {}
    for number, currency in enumerate(events.currencies):
        chosen = events.currency == number
        sums = _per_type(events, chosen & (events.months_back <= AMOUNT_WINDOW_MONTHS), events.amount)
        for code in sorted(set(events.type_code[chosen & (events.amount != 0)].tolist())):
            name = "_".join(filter(None, (events.types[code], currency)))
            columns[f"amount_{name}_{AMOUNT_WINDOW_MONTHS}m"] = sums[:, code]
    return pd.DataFrame(columns, index=range(events.rows))


def _per_type(events: _Events, chosen: NDArray[np.bool_], weights: Floats | None) -> Floats:
    """Sums over the chosen events; shape [rows, types]."""
    width = len(events.types)
    place = events.row[chosen] * width + events.type_code[chosen]
    mass = None if weights is None else weights[chosen]
    sums = np.bincount(place, mass, minlength=events.rows * width)
    return sums.reshape(events.rows, width).astype(np.float64)


def _arrears(events: _Events) -> pd.DataFrame:
    columns = {}
    stated = ~np.isnan(events.days_past_due)
    for window in WINDOW_MONTHS:
        chosen = stated & (events.months_back <= window)
        largest = np.full(events.rows, -1.0)
        np.maximum.at(largest, events.row[chosen], events.days_past_due[chosen])
        columns[f"max_dpd_{window}m"] = np.where(largest < 0, np.nan, largest)
    return pd.DataFrame(columns)


def _freshness(events: _Events, outcomes: _Events, observed: Ints) -> pd.DataFrame:
    oldest = np.zeros(events.rows)
    np.maximum.at(oldest, events.row, events.months_back)
    return pd.DataFrame(
        {
            "months_of_history": oldest,
            "gap_days": _gap_days(events, observed),
            "outcome_gap_days": _gap_days(outcomes, observed),
        }
    )


def _gap_days(events: _Events, observed: Ints) -> Floats:
    """Days from the newest event to T, NaN if there is none."""
    newest = np.full(events.rows, np.iinfo(np.int64).min)
    np.maximum.at(newest, events.row, events.event_at)
    known = newest > np.iinfo(np.int64).min
    return np.where(known, (observed - np.where(known, newest, observed)) / _MICROSECONDS_PER_DAY, np.nan)


def _profiles(column: pa.ChunkedArray) -> pd.DataFrame:
    """One column of words per key of the profile map."""
    pairs = column.cast(pa.list_(pa.struct({"key": pa.string(), "value": pa.string()})))
    flat = pc.list_flatten(pairs)
    long = pd.DataFrame(
        {
            "row": _row_of_items(pairs),
            "key": pc.struct_field(flat, "key").to_pandas(),
            "word": pc.struct_field(flat, "value").to_pandas(),
        }
    )
    wide = long.pivot(index="row", columns="key", values="word").reindex(range(len(column)))
    return wide.add_prefix("profile_").rename_axis(index=None, columns=None)


def _row_of_items(column: pa.ChunkedArray) -> Ints:
    """The row index of each item of a list column; a null list has no items."""
    lengths = _integers(pc.fill_null(pc.list_value_length(column), 0))
    return np.repeat(np.arange(len(column)), lengths)


def _utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("us", tz="UTC"))


def _month(column: pa.ChunkedArray, timezone: str) -> Ints:
    """Calendar month in the time zone, as a consecutive number."""
    local = column.cast(pa.timestamp("us", tz=timezone))
    return _integers(pc.year(local)) * 12 + _integers(pc.month(local))


def _integers(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _decimal(column: pa.ChunkedArray) -> Floats:
    """Nulls become NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
