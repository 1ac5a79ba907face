"""The definition of the baseline features: conventional scorecard features of what a language model reads.

``names.FEATURES`` describes them. Every one is computed from what happened, and was known, before T. ``feature_rows``
is the only place that computes them: Spark applies it to batches for the table behavior_features, a service or a test
to single clients; a row does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zigong.errors import DataError
from zigong.features.event_arrays import Events, Flags, Floats, Ints, flattened, integers, utc
from zigong.features.frame import features_of
from zigong.features.names import (
    AMOUNT,
    AMOUNT_WINDOW_MONTHS,
    ARREARS_DAYS,
    COUNTS,
    LAGS,
    LOANS,
    OTHER,
    STATES,
    WINDOW_MONTHS,
    WINDOWS,
)

SEQUENCE_COLUMNS = ("observation_at", "profile", "counts", "events", "event_loans", "loans", "loan")
_MICROSECONDS_PER_DAY = 86_400_000_000
Columns = dict[str, pa.Array]


def baseline_features(
    sequences: pa.Table,
    outcome_events: Sequence[str],
    timezone: str,
    currency: str | None = None,
    attributes: Sequence[str] = (),
) -> pd.DataFrame:
    """The features of each sequence as models read them, in the order of the table.

    Args:
        sequences: rows of user_sequences, with SEQUENCE_COLUMNS.
        outcome_events: event types that state a repayment status.
        timezone: business time zone, which determines the calendar month of an event.
        currency: main currency of amounts; None: they have one currency.
        attributes: attributes of events whose values are counted, each value like a type of its own.

    Raises:
        DataError: a column is missing, the table is empty, or amounts are in several currencies and none is the main.
    """
    return features_of(feature_rows(sequences, outcome_events, timezone, currency, attributes))


def feature_rows(
    sequences: pa.Table,
    outcome_events: Sequence[str],
    timezone: str,
    currency: str | None = None,
    attributes: Sequence[str] = (),
) -> pa.Table:
    """The ``frame.FEATURE_COLUMNS`` of behavior_features of each sequence; arguments as in ``baseline_features``.

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
    every = flattened(sequences, timezone, currency, attributes)
    events = every.where(~every.is_other)
    is_outcome = np.isin(events.type_code, [i for i, name in enumerate(events.types) if name in set(outcome_events)])
    observed = integers(utc(sequences["observation_at"]).cast(pa.int64()))
    known = integers(pc.struct_field(sequences["counts"], "events")).astype(np.float64)
    own = _windows(events, _has_item(every))
    freshness = _freshness(every, events.where(is_outcome), observed)
    columns: Columns = {
        "last_outcomes": _last_outcomes(events, is_outcome),
        **own,
        **freshness,
        "known_events": pa.array(known),
        **_other_loans(every, sequences),
    }
    return pa.table(columns).append_column("profile", sequences["profile"])


def _has_item(events: Events) -> Flags:
    """Whether each sequence has events that count as each of ``counted``; shape [rows, counted]."""
    return _per_item(events, np.ones(len(events.row), dtype=bool)) > 0


def _other_loans(every: Events, sequences: pa.Table) -> Columns:
    """The windows and states of the client's other loans, and the number of all loans and the age of the observed one.

    All are null where the client is observed.
    """
    others, own = every.where(every.is_other), every.where(~every.is_other & (every.loan > 0))
    columns = {f"{OTHER}{name}": column for name, column in _windows(others, _has_item(every)).items()}
    columns |= {f"{OTHER}{name}": column for name, column in _loan_states(others).items()}
    columns[LOANS] = pa.array(integers(sequences["loans"]).astype(np.float64))
    columns["months_of_loan"] = pa.array(_oldest(own))
    is_loan = sequences["loan"].is_valid().combine_chunks()
    return {name: pc.if_else(is_loan, column, pa.scalar(None, column.type)) for name, column in columns.items()}


def _loan_states(events: Events) -> Columns:
    """Best, worst and sum over loans of their last and of their largest days past due; null without such a loan."""
    stated = events.where(~np.isnan(events.days_past_due))
    states = pd.DataFrame({"row": stated.row, "loan": stated.loan, "dpd": stated.days_past_due})
    of_loans = states.groupby(["row", "loan"])["dpd"].agg(["last", "max"])  # events are in the order of time
    last, highest = (of_loans[name].groupby("row") for name in ("last", "max"))
    late = (of_loans["last"] > 0).groupby("row").sum()
    found = (last.min(), last.max(), last.sum(), late, highest.min(), highest.sum())
    columns = {name: column.reindex(range(events.rows)) for name, column in zip(STATES, found, strict=True)}
    return {name: _known(column.to_numpy(dtype=np.float64)) for name, column in columns.items()}


def _last_outcomes(events: Events, is_outcome: Flags) -> pa.ListArray:
    """Type and days past due of the last outcome events of each sequence, newest first, at most ``LAGS``."""
    row = events.row[is_outcome]
    per_row = np.bincount(row, minlength=events.rows)
    lag = np.cumsum(per_row)[row] - np.arange(len(row))  # 1 = last outcome of its row
    newest_first = np.lexsort((lag, row))
    kept = np.flatnonzero(is_outcome)[newest_first[lag[newest_first] <= LAGS]]
    fields = {
        "event_type": _words(events.types, events.type_code[kept]),
        "days_past_due": _known(events.days_past_due[kept]),
    }
    return _lists(np.minimum(per_row, LAGS), fields)


def _windows(events: Events, has_item: Flags) -> Columns:
    """Counts, arrears and amounts of the windows and of all events."""
    return {"event_counts": _counts(events, has_item), **_arrears(events), "amounts": _amounts(events)}


def _chosen_windows(events: Events) -> Iterator[tuple[str, Flags]]:
    """Name of each window and its events; last all events of the sequence."""
    everything = np.ones(len(events.row), dtype=bool)
    yield from zip(WINDOWS, [*(events.months_back <= months for months in WINDOW_MONTHS), everything], strict=True)


def _counts(events: Events, has_item: Flags) -> pa.ListArray:
    """Events of each type and value per window; of all events per month: a bare number grows with the calendar.

    Args:
        events: the events.
        has_item: what each sequence names, even if none of these events counts as it; shape [rows, counted].
    """
    numbers = [_per_item(events, inside) for _, inside in _chosen_windows(events)]
    numbers[-1] /= np.maximum(_oldest(events), 1.0)[:, None]
    _, codes = np.nonzero(has_item)
    fields = {"event_type": _words(events.counted, codes)}
    fields |= {name: pa.array(found[has_item].astype(np.float32)) for name, found in zip(COUNTS, numbers, strict=True)}
    return _lists(has_item.sum(axis=1), fields)


def _amounts(events: Events) -> pa.ListArray:
    """Sums of each type and currency that a sequence has amounts of, in its last months."""
    stated = events.where(events.amount != 0)
    width, currencies = len(events.types), len(events.currencies)
    place = (stated.row * currencies + stated.currency) * width + stated.type_code
    groups, group = np.unique(place, return_inverse=True)
    near = stated.months_back <= AMOUNT_WINDOW_MONTHS
    sums = np.bincount(group[near], stated.amount[near], minlength=len(groups)).astype(np.float64)
    rows, within = np.divmod(groups, currencies * width) if len(groups) else (groups, groups)
    names = [name or None for name in events.currencies]
    fields = {
        "event_type": _words(events.types, within % max(width, 1)),
        "currency": pa.array(names, pa.string()).take(pa.array(within // max(width, 1))),
        AMOUNT: pa.array(sums),
    }
    return _lists(np.bincount(rows, minlength=events.rows), fields)


def _per_item(events: Events, chosen: Flags) -> Floats:
    """Number of the chosen events that count as each of ``counted``; shape [rows, counted]."""
    width = len(events.counted)
    codes = events.counted_code[chosen]
    place = (events.row[chosen, None] * width + codes)[codes >= 0]
    return np.bincount(place, minlength=events.rows * width).reshape(events.rows, width).astype(np.float64)


def _arrears(events: Events) -> Columns:
    """The largest days past due of each window, and the months since the last arrears; null without any."""
    columns: Columns = {}
    stated = ~np.isnan(events.days_past_due)
    for window, inside in _chosen_windows(events):
        chosen = stated & inside
        largest = np.full(events.rows, -np.inf)
        np.maximum.at(largest, events.row[chosen], events.days_past_due[chosen])
        columns[f"max_dpd_{window}"] = _known(np.where(np.isinf(largest), np.nan, largest))
    for days in ARREARS_DAYS:
        late = stated & (events.days_past_due >= days)
        nearest = np.full(events.rows, np.inf)
        np.minimum.at(nearest, events.row[late], events.months_back[late])
        columns[f"months_since_dpd_{days}"] = _known(np.where(np.isinf(nearest), np.nan, nearest))
    return columns


def _freshness(events: Events, outcomes: Events, observed: Ints) -> Columns:
    return {
        "months_of_history": pa.array(_oldest(events)),
        "gap_days": _gap_days(events, observed),
        "outcome_gap_days": _gap_days(outcomes, observed),
    }


def _oldest(events: Events) -> Floats:
    """Months from the first event to T, 0 if there is none."""
    oldest = np.zeros(events.rows)
    np.maximum.at(oldest, events.row, events.months_back)
    return oldest


def _gap_days(events: Events, observed: Ints) -> pa.Array:
    """Days from the newest event to T, null if there is none."""
    newest = np.full(events.rows, np.iinfo(np.int64).min)
    np.maximum.at(newest, events.row, events.event_at)
    known = newest > np.iinfo(np.int64).min
    return _known(np.where(known, (observed - np.where(known, newest, observed)) / _MICROSECONDS_PER_DAY, np.nan))


def _known(numbers: Floats) -> pa.Array:
    """Numbers of which those that are NaN become null."""
    return pa.array(numbers, from_pandas=True)


def _words(words: Sequence[str], codes: Ints) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(codes, pa.int64()))


def _lists(sizes: Ints, fields: Columns) -> pa.ListArray:
    """One list of structs per row, cut from the fields in their order."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    items = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    return pa.ListArray.from_arrays(pa.array(offsets), items)
