"""Columns and categories of the training features, to which the features of other splits are converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zigong.features.names import OTHER, PROFILE, STATUS


@dataclass(frozen=True, kw_only=True)
class FeatureSpace:
    """Columns and categories of the training samples.

    Attributes:
        numbers: numeric columns.
        words: categorical columns with their categories.
    """

    numbers: tuple[str, ...]
    words: dict[str, tuple[str, ...]]


def feature_space(features: pd.DataFrame, columns: Sequence[str]) -> FeatureSpace:
    """The numeric and the categorical ones of some columns; a profile key is numeric if all its values are."""
    words = {name for name in columns if name.startswith(STATUS)}
    words |= {name for name in columns if name.startswith(PROFILE) and not _is_numeric(features[name])}
    return FeatureSpace(
        numbers=tuple(name for name in columns if name not in words),
        words={name: tuple(sorted(features[name].dropna().unique())) for name in columns if name in words},
    )


def space_from_json(content: Mapping[str, Any]) -> FeatureSpace:
    """A feature space as written by ``dataclasses.asdict``."""
    words = {name: tuple(categories) for name, categories in content["words"].items()}
    return FeatureSpace(numbers=tuple(content["numbers"]), words=words)


def aligned(space: FeatureSpace, features: pd.DataFrame) -> pd.DataFrame:
    """The features in the columns of training: unseen categories and absent columns become missing values.

    A count, rate or amount of an event type that this split lacks has no column: its value is 0, not missing.
    """
    columns: dict[str, object] = {}
    for name in space.numbers:
        absent = 0.0 if name.removeprefix(OTHER).startswith(("count_", "rate_", "amount_")) else np.nan
        columns[name] = pd.to_numeric(features[name], errors="coerce") if name in features else absent
    for name, categories in space.words.items():
        values = features[name].astype(object) if name in features else [None] * len(features)
        columns[name] = pd.Categorical(values, categories=list(categories))
    return pd.DataFrame(columns, index=features.index)


def _is_numeric(column: pd.Series) -> bool:
    stated = column.dropna()
    return bool(len(stated)) and bool(pd.to_numeric(stated, errors="coerce").notna().all())
