"""Baseline features as words: a number becomes the quantile that it lies in, and missing and zero have their own words.

Quantiles are those of the train samples, as one token per number in PRAGMA (arXiv 2604.08649).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zigong.evaluation.feature_space import FeatureSpace, aligned, feature_space, space_from_json

MISSING, ZERO, FIRST = 0, 1, 2  # words of every number; words have MISSING, and their categories from 1 on
RAREST = 20  # train samples of a category, below which it counts as missing
Words = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FeatureWords:
    """The words of the features of the training samples.

    Attributes:
        space: columns, and the categories that are frequent enough.
        edges: of each number of the space, the inner edges of its quantiles, ascending; a value on an edge belongs to
            the upper one.
    """

    space: FeatureSpace
    edges: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, features: pd.DataFrame, columns: Sequence[str], *, quantiles: int) -> Self:
        """Words of the training samples.

        Args:
            features: output of baseline_features.
            columns: the columns to use.
            quantiles: number of quantiles of the known numbers other than 0; equal edges count once.
        """
        space = feature_space(features, columns)
        frequent = {name: _frequent(features[name], known) for name, known in space.words.items()}
        used = FeatureSpace(numbers=space.numbers, words=frequent)
        numbers = aligned(used, features)
        return cls(space=used, edges=tuple(_edges(numbers[name], quantiles) for name in used.numbers))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What :meth:`as_json` wrote."""
        edges = tuple(tuple(float(edge) for edge in one) for one in content["edges"])
        return cls(space=space_from_json(content["space"]), edges=edges)

    def as_json(self) -> dict[str, Any]:
        """The value as JSON content."""
        return {"space": asdict(self.space), "edges": [list(one) for one in self.edges]}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of words of each column: the numbers, then the words by name."""
        numbers = (FIRST + len(edges) + 1 for edges in self.edges)
        return (*numbers, *(1 + len(self.space.words[name]) for name in sorted(self.space.words)))

    def __call__(self, features: pd.DataFrame) -> Words:
        """The word of each column of baseline features; shape [rows, columns]."""
        rows = aligned(self.space, features)
        numbers = [_words(rows[name], edges) for name, edges in zip(self.space.numbers, self.edges, strict=True)]
        words = [rows[name].cat.codes.to_numpy() + 1 for name in sorted(self.space.words)]
        return np.column_stack([*numbers, *words]).astype(np.int64)


def _frequent(column: pd.Series, categories: Sequence[str]) -> tuple[str, ...]:
    counts = column.astype(object).value_counts()
    return tuple(name for name in categories if counts[name] >= RAREST)


def _edges(column: pd.Series, quantiles: int) -> tuple[float, ...]:
    values = column.to_numpy(dtype=np.float64)
    stated = values[~np.isnan(values) & (values != 0)]
    if not len(stated):
        return ()
    return tuple(float(edge) for edge in np.unique(np.quantile(stated, np.arange(1, quantiles) / quantiles)))


def _words(column: pd.Series, edges: Sequence[float]) -> Words:
    values = column.to_numpy(dtype=np.float64)
    words = FIRST + np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right")
    found: Words = np.where(np.isnan(values), MISSING, np.where(values == 0, ZERO, words))
    return found
