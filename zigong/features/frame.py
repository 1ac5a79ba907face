"""Rows of behavior_features as the frame that models read: one column per feature, whatever event types occur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.features.event_arrays import Ints, decimals, row_of_items
from zigong.features.names import (
    AMOUNT,
    ARREARS,
    COUNTS,
    FRESHNESS,
    LAGS,
    LOANS,
    NO_STATUS,
    OTHER,
    PROFILE,
    STATES,
    STATUS,
    VALUE_SIGN,
)

OF_LOANS = (*(f"{OTHER}{name}" for name in STATES), LOANS, "months_of_loan")
FEATURE_COLUMNS = (
    "last_outcomes",
    "event_counts",
    *ARREARS,
    "amounts",
    *FRESHNESS,
    f"{OTHER}event_counts",
    *(f"{OTHER}{name}" for name in ARREARS),
    f"{OTHER}amounts",
    *OF_LOANS,
    "profile",
)


def features_of(rows: pa.Table) -> pd.DataFrame:
    """The features of each row, in the order of the rows.

    A count or rate of a type or value, and an amount of a type and currency, is 0 for a row that does not name it; it
    is a column if a row does. The features of other loans are columns where loans are observed.

    Args:
        rows: rows of behavior_features, with FEATURE_COLUMNS.
    """
    counts = rows["event_counts"]
    codes, types = _coded(counts, "event_type")
    parts = [
        _lags(rows["last_outcomes"], [name for name in types if VALUE_SIGN not in name]),
        _counts(counts, codes, types),
        _numbers(rows, ARREARS),
        _amounts(rows["amounts"]),
        _numbers(rows, FRESHNESS),
    ]
    if rows[LOANS].null_count < len(rows):
        others = rows[f"{OTHER}event_counts"]
        own_order = pd.Index(types).get_indexer(pc.struct_field(pc.list_flatten(others), "event_type").to_pandas())
        parts += [
            _counts(others, own_order, types).add_prefix(OTHER),
            _numbers(rows, [f"{OTHER}{name}" for name in ARREARS]),
            _amounts(rows[f"{OTHER}amounts"]).add_prefix(OTHER),
            _numbers(rows, OF_LOANS),
        ]
    return pd.concat([*parts, _profiles(rows["profile"])], axis=1)


def _lags(outcomes: pa.ChunkedArray, types: Sequence[str]) -> pd.DataFrame:
    row = row_of_items(outcomes)
    lag = np.arange(len(row)) - np.searchsorted(row, row)  # 0 = last outcome of its row
    flat = pc.list_flatten(outcomes)
    status = np.full((len(outcomes), LAGS), len(types), dtype=np.int64)
    status[row, lag] = pd.Index(types).get_indexer(pc.struct_field(flat, "event_type").to_pandas())
    dpd = np.full((len(outcomes), LAGS), np.nan)
    dpd[row, lag] = decimals(pc.struct_field(flat, "days_past_due"))
    categories = pd.Index([*types, NO_STATUS])
    words = {f"{STATUS}{k + 1}": pd.Categorical.from_codes(status[:, k], categories) for k in range(LAGS)}
    return pd.DataFrame({**words, **{f"dpd_lag_{k + 1}": dpd[:, k] for k in range(LAGS)}})


def _counts(lists: pa.ChunkedArray, codes: Ints, types: Sequence[str]) -> pd.DataFrame:
    row, flat = row_of_items(lists), pc.list_flatten(lists)
    columns: dict[str, NDArray[np.float32]] = {}
    for field in COUNTS:
        numbers = np.zeros((len(lists), len(types)), dtype=np.float32)
        numbers[row, codes] = pc.struct_field(flat, field).to_numpy()
        kind, window = field.split("_")
        columns |= {f"{kind}_{name}_{window}": numbers[:, code] for code, name in enumerate(types)}
    return pd.DataFrame(columns, index=range(len(lists)), dtype=np.float32)


def _amounts(lists: pa.ChunkedArray) -> pd.DataFrame:
    codes, types = _coded(lists, "event_type")
    currency, currencies = _coded(lists, "currency")
    row, sums = row_of_items(lists), decimals(pc.struct_field(pc.list_flatten(lists), AMOUNT))
    columns: dict[str, NDArray[np.float64]] = {}
    for number, code in sorted(set(zip(currency.tolist(), codes.tolist(), strict=True))):
        here = (currency == number) & (codes == code)
        values = np.zeros(len(lists))
        values[row[here]] = sums[here]
        kind = types[code] if number < 0 else f"{types[code]}_{currencies[number]}"
        columns[AMOUNT.replace("_", f"_{kind}_")] = values
    return pd.DataFrame(columns, index=range(len(lists)))


def _coded(lists: pa.ChunkedArray, field: str) -> tuple[Ints, Sequence[str]]:
    """The words of a field of list items as indices into the sorted words; a null is -1."""
    codes, words = pd.factorize(pc.struct_field(pc.list_flatten(lists), field).to_pandas(), sort=True)
    return codes.astype(np.int64), tuple(map(str, words))


def _numbers(rows: pa.Table, names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({name: decimals(rows[name]) for name in names})


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
