"""Metrics of a score for the labels good and bad.

A higher score always means a higher risk; label 1 is bad. Ties are exact: AUC counts a tied pair as one half, and KS is
computed only where the score changes. With few bad samples accuracy is high for a constant prediction: compare it with
that of ``majority``.
"""

from __future__ import annotations

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
        is_bad = np.flatnonzero(self.bad)
        parts = ((self.place, mass), (self.place[is_bad], mass[is_bad]))
        both, bad = (np.concatenate(([0.0], np.cumsum(np.bincount(at, of, len(self.cuts))))) for at, of in parts)
        good = both - bad
        return Curve(cuts=self.cuts, bad=bad / bad[-1], good=good / good[-1])


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


def sample_log_loss(bad: NDArray[np.bool_], p_bad: Floats) -> Floats:
    """Negative log-likelihood of each label in nats; shape [samples]."""
    p = np.clip(p_bad, _SMALLEST_P, 1 - _SMALLEST_P)
    losses: Floats = -np.where(bad, np.log(p), np.log1p(-p))
    return losses


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


def expected_curve(p_bad: Floats, counts: Floats | None = None) -> Curve:
    """The curve that is expected of samples without labels, if their probabilities are calibrated.

    A sample counts as p bad ones and 1 - p good ones: confidence-based performance estimation (NannyML, CBPE). It holds
    as far as the calibration holds: an unnoticed change of the bad rate at equal behaviour is not in it.

    Args:
        p_bad: calibrated probabilities; shape [samples].
        counts: number of samples with each probability, None for one each; shape [samples].

    Raises:
        DataError: a value is no probability, or all are 0 or all are 1.
    """
    p = np.asarray(p_bad, dtype=np.float64)
    mass = np.ones(len(p)) if counts is None else np.asarray(counts, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all() or not 0 < float(mass @ p) < float(mass.sum()):
        raise DataError(
            f"expected probabilities with a mean between 0 and 1, found {len(p)} values that have none",
            action="estimate from the calibrated probabilities of scored samples",
        )
    cuts, place = np.unique(p, return_inverse=True)
    place = len(cuts) - 1 - place
    bad, good = (
        np.concatenate(([0.0], np.cumsum(np.bincount(place, mass * share, len(cuts))))) for share in (p, 1 - p)
    )
    return Curve(cuts=cuts[::-1].copy(), bad=bad / bad[-1], good=good / good[-1])


# A metric is one function and one line, here or in ``resampled.INTERVAL_METRICS``; evaluation_metrics, metrics.json and
# the report then contain it. These are computed once per split; those of resamples have an interval.
POINT_METRICS: dict[str, Callable[[NDArray[np.integer], Floats], float]] = {
    "expected_auc": lambda _, p_bad: expected_curve(p_bad).auc,
    "expected_ks": lambda _, p_bad: expected_curve(p_bad).ks,
}
