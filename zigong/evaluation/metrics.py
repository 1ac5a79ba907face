"""Metrics of a score for the labels good and bad.

A higher score always means a higher risk; label 1 is bad. Ties are exact: AUC counts a tied pair as one half, and KS is
computed only where the score changes. Accuracy is not offered: with 5% bad it is high for a constant prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sklearn.metrics
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss

from zigong.errors import DataError

Floats = NDArray[np.float64]

_SMALLEST_P = 1e-12  # keeps the log-loss of a certain and wrong answer finite


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Cumulative shares by descending score, one point per distinct score, starting at (0, 0).

    Attributes:
        cuts: distinct scores, descending; shape [distinct].
        bad: share of the bad at or above each cut; shape [distinct + 1].
        good: share of the good at or above each cut; shape [distinct + 1].
    """

    cuts: Floats
    bad: Floats
    good: Floats

    @property
    def ks(self) -> float:
        """Largest distance between the two shares."""
        return float(np.max(np.abs(self.bad - self.good)))

    @property
    def auc(self) -> float:
        """Area under bad over good; the trapezoid of a tie counts it as one half."""
        return float(np.sum(np.diff(self.good) * (self.bad[1:] + self.bad[:-1])) / 2)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Scores sorted once, for curves with different weights.

    Attributes:
        cuts: distinct scores, descending.
        place: index of each sample's score in cuts.
        bad: whether each sample is bad.
    """

    cuts: Floats
    place: NDArray[np.int64]
    bad: NDArray[np.bool_]

    def curve(self, weights: Floats | None = None) -> Curve:
        """The curve with weights of the samples; None means weight 1 each."""
        mass = np.ones(len(self.place)) if weights is None else weights
        counts = (np.bincount(self.place, mass * side, len(self.cuts)) for side in (self.bad, ~self.bad))
        bad, good = (np.concatenate(([0.0], np.cumsum(count))) for count in counts)
        return Curve(cuts=self.cuts, bad=bad / bad[-1], good=good / good[-1])


@dataclass(frozen=True, kw_only=True)
class Resample:
    """One model on one resample of a split; the sample itself is the resample of weight 1.

    Attributes:
        curve: the ROC and KS curve with these weights.
        weights: how often each sample was drawn; shape [samples].
        bad: whether each sample is bad; shape [samples].
        called: whether the score of each sample reaches the threshold of the model; None without a threshold.
    """

    curve: Curve
    weights: Floats
    bad: NDArray[np.bool_]
    called: NDArray[np.bool_] | None


def score_curve(labels: NDArray[np.integer], scores: Floats) -> Curve:
    """The ROC and KS curve of one model; AUC and KS are its properties.

    Raises:
        DataError: shapes differ, a score is not finite, or one class is missing.
    """
    return rank_scores(labels, scores).curve()


def auc(labels: NDArray[np.integer], scores: Floats) -> float:
    """Probability that a bad sample has a higher score than a good one, with ties as one half (Mann-Whitney)."""
    return score_curve(labels, scores).auc


def best_mcc_threshold(labels: NDArray[np.integer], scores: Floats) -> float:
    """The threshold with the largest MCC, the highest one if several are equal.

    A sample is classified as bad if its score reaches it. Choose it on the split ``select`` and use it for every split.
    """
    ranked = rank_scores(labels, scores)
    curve = ranked.curve()
    bad, good = int(ranked.bad.sum()), int((~ranked.bad).sum())
    hits, alarms = curve.bad[1:] * bad, curve.good[1:] * good
    called = hits + alarms
    spread = np.sqrt(called * (bad + good - called) * bad * good)
    values = np.divide(hits * good - alarms * bad, spread, out=np.zeros_like(hits), where=spread > 0.5)
    return float(curve.cuts[int(np.argmax(np.round(values, 12)))])


def brier(labels: NDArray[np.integer], p_bad: Floats) -> float:
    """Mean squared difference of probability and label."""
    return float(brier_score_loss(_checked(labels, p_bad), np.asarray(p_bad, dtype=np.float64), labels=(False, True)))


def log_loss(labels: NDArray[np.integer], p_bad: Floats) -> float:
    """Mean negative log-likelihood in nats, with probabilities clipped to [1e-12, 1 - 1e-12]."""
    p = np.clip(np.asarray(p_bad, dtype=np.float64), _SMALLEST_P, 1 - _SMALLEST_P)
    return float(sklearn.metrics.log_loss(_checked(labels, p_bad), p, labels=(False, True)))


def matthews(weights: Floats, bad: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Matthews correlation of weighted samples; 0 where a prediction is constant (Matthews 1975).

    The function of scikit-learn takes fifty times as long, since it validates and encodes the labels at every call; a
    bootstrap calls this for every resample.
    """
    total, positives, calls = float(weights.sum()), float(weights[bad].sum()), float(weights[called].sum())
    hits = float(weights[bad & called].sum())
    spread = calls * (total - calls) * positives * (total - positives)
    return (hits * total - calls * positives) / math.sqrt(spread) if spread > 0 else 0.0


def rank_scores(labels: NDArray[np.integer], scores: Floats) -> Ranked:
    """Sorts scores once.

    Raises:
        DataError: shapes differ, a score is not finite, or one class is missing.
    """
    bad = _checked(labels, scores)
    if bad.all() or not bad.any():
        raise DataError(
            f"expected good and bad samples, found {int(bad.sum())} bad of {len(bad)}",
            action="evaluate on a split that contains both classes: widen its dates or its share",
        )
    cuts, place = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    return Ranked(cuts=cuts[::-1].copy(), place=len(cuts) - 1 - place, bad=bad)


def _checked(labels: NDArray[np.integer], scores: Floats) -> NDArray[np.bool_]:
    values = np.asarray(scores, dtype=np.float64)
    if len(labels) != len(values):
        raise mismatch(len(labels), len(values), "scores")
    if not len(values) or not np.isfinite(values).all():
        broken = int(np.sum(~np.isfinite(values)))
        raise DataError(
            f"expected finite scores, found {broken} others of {len(values)}",
            action="find the model that returned NaN; a miss must still have a probability",
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError("expected labels 0 and 1, found others", action="drop indeterminate samples before evaluation")
    bad: NDArray[np.bool_] = np.asarray(labels) == 1
    return bad


def mismatch(expected: int, found: int, what: str) -> DataError:
    """The error for columns of unequal length."""
    return DataError(
        f"expected {expected} {what}, one per label, found {found}",
        action="score every model on the same samples in the same order",
    )


def _resampled_mcc(resample: Resample) -> float | None:
    if resample.called is None:
        return None
    return matthews(resample.weights, resample.bad, resample.called)


# A metric is one function and one line here; evaluation_metrics, metrics.json and the report then contain it.
# Metrics of resamples have an interval; None if the model has no threshold.
INTERVAL_METRICS: dict[str, Callable[[Resample], float | None]] = {
    "auc": lambda resample: resample.curve.auc,
    "ks": lambda resample: resample.curve.ks,
    "mcc": _resampled_mcc,
}
POINT_METRICS: dict[str, Callable[[NDArray[np.integer], Floats], float]] = {"brier": brier, "log_loss": log_loss}
