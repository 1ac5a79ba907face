"""Conventional scorecard features, computed from the same sequences that the language model reads.

``FEATURES`` lists their columns. Every one is computed from what happened, and was known, before T.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zigong.errors import DataError
from zigong.evaluation.event_arrays import Events, Flags, Floats, Ints, flattened, integers, row_of_items, utc

LAGS = 12
WINDOW_MONTHS = (1, 3, 6, 12, 24)
AMOUNT_WINDOW_MONTHS = 3
ARREARS_DAYS = (1, 30)  # days past due from which an event counts as arrears
NO_STATUS = "-"  # not a valid name of an event type
SEQUENCE_COLUMNS = ("observation_at", "profile", "counts", "events", "event_loans", "loans", "loan")
STATUS, PROFILE = "status_lag_", "profile_"
OTHER = "other_"  # prefix of the features of the client's other loans
LOANS = "loans"
_MICROSECONDS_PER_DAY = 86_400_000_000

# Columns of baseline_features. WINDOW is 1m, 3m, 6m, 12m, 24m, or all (every event of the sequence, of which
# instructions.max_events are the most); months are those of the calendar. CURRENCY is left out for the main one. Where
# a loan is observed, the columns up to profile_KEY are of its events and of those that name no loan, except
# months_of_history, gap_days and known_events, which are the client's; the columns from loans on exist only there.
FEATURES = {
    "status_lag_K": "type of the K-th last outcome event, K from 1 to 12",
    "dpd_lag_K": "days past due of that event",
    "count_EVENT_WINDOW": "number of events of a type; no such column for all",
    "rate_EVENT_all": "number of events of a type per month from the first event to T, at least one month",
    "max_dpd_WINDOW": "largest days past due",
    "months_since_dpd_D": "months from the last event with D (1 or 30) or more days past due to T",
    "amount_EVENT_CURRENCY_3m": "sum of the amounts of a type",
    "months_of_history": "months from the first event to T",
    "gap_days": "days from the last event to T",
    "outcome_gap_days": "days from the last outcome event to T",
    "known_events": "number of events known as of T, those that were folded included",
    "profile_KEY": "value of the profile",
    "loans": "number of the client's loans, the observed one included",
    "months_of_loan": "months from the first event of the observed loan to T",
    "other_count_EVENT_WINDOW": "number of events of a type, summed over the other loans; no such column for all",
    "other_rate_EVENT_all": "that number of all events per month from the first event of any other loan to T",
    "other_max_dpd_WINDOW": "largest days past due of any other loan",
    "other_months_since_dpd_D": "months from the last such event of any other loan to T",
    "other_amount_EVENT_CURRENCY_3m": "sum of the amounts of a type over the other loans",
    "other_last_dpd_best": "smallest of the other loans' last known days past due",
    "other_last_dpd_worst": "largest of them",
    "other_last_dpd_sum": "their sum",
    "other_loans_in_arrears": "number of the other loans whose last known days past due are above 0",
    "other_highest_dpd_best": "smallest over the other loans of each one's largest days past due",
    "other_highest_dpd_sum": "sum over the other loans of each one's largest days past due",
}
# Features without the prefix that depend on the events of other loans.
OF_OTHER_LOANS = ("months_of_history", "gap_days", "known_events", LOANS)


def baseline_features(
    sequences: pa.Table, outcome_events: Sequence[str], timezone: str, currency: str | None = None
) -> pd.DataFrame:
    """The ``FEATURES`` of each sequence, in the order of the table.

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
    every = flattened(sequences, timezone, currency)
    events = every.where(~every.is_other)
    is_outcome = np.isin(events.type_code, [i for i, name in enumerate(events.types) if name in set(outcome_events)])
    observed = integers(utc(sequences["observation_at"]).cast(pa.int64()))
    parts = [
        _lags(events, is_outcome),
        _windows(events),
        _freshness(every, events.where(is_outcome), observed),
        pd.DataFrame({"known_events": integers(pc.struct_field(sequences["counts"], "events")).astype(np.float64)}),
        *([_other_loans(every, sequences["loans"])] if sequences["loan"].null_count < len(sequences) else []),
        _profiles(sequences["profile"]),
    ]
    return pd.concat(parts, axis=1)


def is_of_other_loans(name: str) -> bool:
    """Whether a feature depends on events of other loans than the observed one."""
    return name.startswith(OTHER) or name in OF_OTHER_LOANS


def _other_loans(every: Events, loans: pa.ChunkedArray) -> pd.DataFrame:
    """The windows and the states of the client's other loans, the number of all loans, and the age of this one."""
    others, own = every.where(every.is_other), every.where(~every.is_other & (every.loan > 0))
    parts = pd.concat([_windows(others), _loan_states(others)], axis=1).add_prefix(OTHER)
    return parts.assign(**{LOANS: integers(loans).astype(np.float64), "months_of_loan": _oldest(own)})


def _loan_states(events: Events) -> pd.DataFrame:
    """Best, worst and sum over loans of their last and of their largest days past due; NaN without such a loan."""
    stated = events.where(~np.isnan(events.days_past_due))
    states = pd.DataFrame({"row": stated.row, "loan": stated.loan, "dpd": stated.days_past_due})
    of_loans = states.groupby(["row", "loan"])["dpd"].agg(["last", "max"])  # events are in the order of time
    last, highest = (of_loans[name].groupby("row") for name in ("last", "max"))
    columns = {
        "last_dpd_best": last.min(),
        "last_dpd_worst": last.max(),
        "last_dpd_sum": last.sum(),
        "loans_in_arrears": (of_loans["last"] > 0).groupby("row").sum(),
        "highest_dpd_best": highest.min(),
        "highest_dpd_sum": highest.sum(),
    }
    return pd.DataFrame(columns).reindex(range(events.rows)).astype(np.float64).rename_axis(index=None)


def _lags(events: Events, is_outcome: Flags) -> pd.DataFrame:
    row, code = events.row[is_outcome], events.type_code[is_outcome]
    per_row = np.bincount(row, minlength=events.rows)
    lag = np.cumsum(per_row)[row] - np.arange(len(row))  # 1 = last outcome of its row
    near = lag <= LAGS
    categories = pd.Index([*events.types, NO_STATUS])
    status = np.full((events.rows, LAGS), len(events.types), dtype=np.int64)
    status[row[near], lag[near] - 1] = code[near]
    dpd = np.full((events.rows, LAGS), np.nan)
    dpd[row[near], lag[near] - 1] = events.days_past_due[is_outcome][near]
    words = {f"{STATUS}{k + 1}": pd.Categorical.from_codes(status[:, k], categories) for k in range(LAGS)}
    return pd.DataFrame({**words, **{f"dpd_lag_{k + 1}": dpd[:, k] for k in range(LAGS)}})


def _windows(events: Events) -> pd.DataFrame:
    """Counts, arrears and amounts of the windows and of all events."""
    return pd.concat([_counts(events), _arrears(events), _amounts(events)], axis=1)


def _chosen_windows(events: Events) -> Iterator[tuple[str, Flags]]:
    """Name of each window and its events; last all events of the sequence."""
    for months in WINDOW_MONTHS:
        yield f"{months}m", events.months_back <= months
    yield "all", np.ones(len(events.row), dtype=bool)


def _counts(events: Events) -> pd.DataFrame:
    """Events of each type per window; of all events per month, since a bare number grows with the calendar."""
    columns: dict[str, Floats] = {}
    for months in WINDOW_MONTHS:
        counts = _per_type(events, events.months_back <= months, None)
        columns |= {f"count_{name}_{months}m": counts[:, code] for code, name in enumerate(events.types)}
    rates = _per_type(events, np.ones(len(events.row), dtype=bool), None) / np.maximum(_oldest(events), 1.0)[:, None]
    columns |= {f"rate_{name}_all": rates[:, code] for code, name in enumerate(events.types)}
    return pd.DataFrame(columns, index=range(events.rows), dtype=np.float32)


def _amounts(events: Events) -> pd.DataFrame:
    columns: dict[str, Floats] = {}
    for number, currency in enumerate(events.currencies):
        chosen = events.currency == number
        sums = _per_type(events, chosen & (events.months_back <= AMOUNT_WINDOW_MONTHS), events.amount)
        for code in sorted(set(events.type_code[chosen & (events.amount != 0)].tolist())):
            name = "_".join(filter(None, (events.types[code], currency)))
            columns[f"amount_{name}_{AMOUNT_WINDOW_MONTHS}m"] = sums[:, code]
    return pd.DataFrame(columns, index=range(events.rows))


def _per_type(events: Events, chosen: Flags, weights: Floats | None) -> Floats:
    """Sums over the chosen events; shape [rows, types]."""
    width = len(events.types)
    place = events.row[chosen] * width + events.type_code[chosen]
    mass = None if weights is None else weights[chosen]
    sums = np.bincount(place, mass, minlength=events.rows * width)
    return sums.reshape(events.rows, width).astype(np.float64)


def _arrears(events: Events) -> pd.DataFrame:
    """The largest days past due of each window, and the months since the last arrears; NaN without any."""
    columns = {}
    stated = ~np.isnan(events.days_past_due)
    for window, inside in _chosen_windows(events):
        chosen = stated & inside
        largest = np.full(events.rows, -np.inf)
        np.maximum.at(largest, events.row[chosen], events.days_past_due[chosen])
        columns[f"max_dpd_{window}"] = np.where(np.isinf(largest), np.nan, largest)
    for days in ARREARS_DAYS:
        late = stated & (events.days_past_due >= days)
        nearest = np.full(events.rows, np.inf)
        np.minimum.at(nearest, events.row[late], events.months_back[late])
        columns[f"months_since_dpd_{days}"] = np.where(np.isinf(nearest), np.nan, nearest)
    return pd.DataFrame(columns)


def _freshness(events: Events, outcomes: Events, observed: Ints) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "months_of_history": _oldest(events),
            "gap_days": _gap_days(events, observed),
            "outcome_gap_days": _gap_days(outcomes, observed),
        }
    )


def _oldest(events: Events) -> Floats:
    """Months from the first event to T, 0 if there is none."""
    oldest = np.zeros(events.rows)
    np.maximum.at(oldest, events.row, events.months_back)
    return oldest


def _gap_days(events: Events, observed: Ints) -> Floats:
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
            "row": row_of_items(pairs),
            "key": pc.struct_field(flat, "key").to_pandas(),
            "word": pc.struct_field(flat, "value").to_pandas(),
        }
    )
    wide = long.pivot(index="row", columns="key", values="word").reindex(range(len(column)))
    return wide.add_prefix(PROFILE).rename_axis(index=None, columns=None)
