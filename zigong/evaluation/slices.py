"""Slices of a split: by month of T, length of history, attributes of the profile, and new against known persons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from zigong.errors import ConfigError

Words = NDArray[np.str_]

HISTORY_MONTHS = (6, 12, 24)  # lower ends of the second and the later groups
ABSENT = "not stated"
OTHERS = "other values"
_MOST_VALUES = 20  # of an attribute of words; the rarer ones are one slice
_MOST_NUMBERS = 10  # distinct numbers that are slices themselves; more are divided into thirds


def slices_of(
    members: pa.Table, features: pd.DataFrame, known: NDArray[np.generic], *, unit: str, segments: Sequence[str]
) -> dict[str, Words]:
    """The slice of each held-out sample in each respect.

    Args:
        members: observation_date and the unit column of the samples.
        features: their baseline features, in the same order.
        known: values of the unit column in train.
        unit: column of the persons.
        segments: attributes of the profile.

    Returns:
        ``month``, ``history``, ``person`` and every segment; shape [samples] each.

    Raises:
        ConfigError: no sample has a segment's attribute.
    """
    is_known = np.isin(np.asarray(members[unit]), known)
    return {
        "month": np.array([day.strftime("%Y-%m") for day in members["observation_date"].to_pylist()], dtype=str),
        "history": history_groups(features["months_of_history"].to_numpy(dtype=np.float64)),
        "person": np.where(is_known, "known", "new"),
        **{name: attribute_groups(attribute_of(features, name, key="evaluation.segments")) for name in segments},
    }


def attribute_of(features: pd.DataFrame, name: str, *, key: str) -> pd.Series:
    """The values of a profile attribute as words, missing ones as ``not stated``.

    Args:
        features: baseline features.
        name: attribute of the profile.
        key: key of the recipe that names it, for the error.

    Raises:
        ConfigError: no sample has the attribute; the message lists those that exist.
    """
    column = f"profile_{name}"
    if column not in features:
        known = sorted(str(item).removeprefix("profile_") for item in features if str(item).startswith("profile_"))
        raise ConfigError(
            f"{key}: expected attributes of the profile, found {name!r}; there are {', '.join(known) or 'none'}",
            action=f"name one of these in {key}, or remove it",
        )
    return features[column].astype(object).where(features[column].notna(), ABSENT).astype(str)


def attribute_groups(values: pd.Series) -> Words:
    """Groups of an attribute: its words, the rarest as one group; thirds where it has many numbers."""
    stated = values != ABSENT
    numbers = pd.to_numeric(values.where(stated), errors="coerce")
    if stated.any() and numbers[stated].notna().all() and numbers.nunique() > _MOST_NUMBERS:
        return _thirds(numbers.to_numpy(dtype=np.float64))
    frequent = values.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:_MOST_VALUES]
    return values.where(values.isin(frequent), OTHERS).to_numpy(dtype=str)


def history_groups(months: NDArray[np.float64]) -> Words:
    """Length of the history in calendar months, in fixed groups, so that runs can be compared."""
    between = (f"{first} to {after - 1}" for first, after in pairwise(HISTORY_MONTHS))
    ends = [f"under {HISTORY_MONTHS[0]}", *between, f"{HISTORY_MONTHS[-1]} or more"]
    names = np.array([f"{end} months" for end in ends], dtype=str)
    found: Words = names[np.searchsorted(HISTORY_MONTHS, months, side="right")]
    return found


def _thirds(numbers: NDArray[np.float64]) -> Words:
    stated = np.isfinite(numbers)
    low, high = np.quantile(numbers[stated], [1 / 3, 2 / 3])
    names = np.array([f"up to {low:g}", f"above {low:g} to {high:g}", f"above {high:g}"], dtype=str)
    placed = names[np.searchsorted([low, high], np.where(stated, numbers, low), side="left")]
    return np.where(stated, placed, ABSENT)


def slice_names(slices: Mapping[str, Words]) -> list[tuple[str, NDArray[np.bool_]]]:
    """The name of every slice, such as ``month=2023-06``, with the samples in it; shape [samples] each."""
    return [(f"{respect}={value}", words == value) for respect, words in slices.items() for value in np.unique(words)]
