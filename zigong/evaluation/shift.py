"""Shift of scores and features between the samples of two splits, by the population stability index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zigong.evaluation.feature_space import FeatureSpace, aligned, feature_space
from zigong.evaluation.held_out import Figure
from zigong.evaluation.metrics import Floats
from zigong.quality.stability import stability_index

BINS = 10
PSI = "psi"


def score_psi(reference: Floats, scores: Floats) -> float:
    """Population stability index of scores in the deciles of a reference; ties stay in one bin.

    Args:
        reference: scores of the split that the bins come from; shape [reference samples].
        scores: scores of the compared split; shape [samples].
    """
    cuts = np.unique(np.quantile(np.asarray(reference, dtype=np.float64), np.arange(1, BINS) / BINS))
    return stability_index(_counts(scores, cuts)[:-1], _counts(reference, cuts)[:-1])


def feature_psi(train: pd.DataFrame, compared: pd.DataFrame) -> dict[str, float]:
    """Population stability index of every baseline feature, with missing values as a bin of their own.

    Numbers are counted in the deciles of train, words by value. Features without any value in train are left out.
    """
    space = feature_space(train, list(train.columns))
    sides = [aligned(space, frame) for frame in (train, compared)]
    return {
        name: stability_index(counts[1], counts[0])
        for name in (*space.numbers, *space.words)
        if (counts := _feature_counts(space, name, sides[0][name], sides[1][name])) is not None
    }


def score_figures(split: NDArray[np.str_], scores: Mapping[str, Floats], splits: Sequence[str]) -> list[Figure]:
    """The shift of every model's scores from ``select``, where calibration and threshold come from, to other splits.

    Args:
        split: split of each sample; shape [samples].
        scores: p_bad by model; shape [samples] each.
        splits: the compared splits; those without samples are left out.
    """
    return [
        Figure(
            model_id=model,
            split=name,
            metric=PSI,
            value=score_psi(p[split == "select"], p[split == name]),
            low=None,
            high=None,
            samples=int(np.sum(split == name)),
        )
        for model, p in scores.items()
        for name in splits
        if name != "select" and (split == name).any()
    ]


def feature_figures(train: pd.DataFrame, compared: pd.DataFrame, *, model_id: str, split: str) -> list[Figure]:
    """The shift of every feature from train to a split, stored with the evaluated model."""
    return [
        Figure(
            model_id=model_id,
            split=split,
            slice=f"feature={name}",
            metric=PSI,
            value=value,
            low=None,
            high=None,
            samples=len(compared),
        )
        for name, value in feature_psi(train, compared).items()
    ]


def _feature_counts(
    space: FeatureSpace, name: str, train: pd.Series, compared: pd.Series
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Rows of each bin in train and in the compared split; None if train has no value."""
    if not train.notna().any():
        return None
    if name in space.words:
        codes = (side.cat.codes.to_numpy() + 1 for side in (train, compared))
        first, second = (np.bincount(side, minlength=len(space.words[name]) + 1) for side in codes)
    else:
        cuts = np.unique(np.nanquantile(train.to_numpy(dtype=np.float64), np.arange(1, BINS) / BINS))
        first, second = (_counts(side.to_numpy(dtype=np.float64), cuts) for side in (train, compared))
    used = (first + second) > 0
    return first[used].astype(np.float64), second[used].astype(np.float64)


def _counts(values: Floats, cuts: Floats) -> NDArray[np.int64]:
    """Rows up to each cut, above the last one, and without a value; shape [cuts + 2]."""
    known = np.isfinite(values)
    counts = np.bincount(np.searchsorted(cuts, values[known], side="left"), minlength=len(cuts) + 1)
    return np.append(counts, np.sum(~known))
