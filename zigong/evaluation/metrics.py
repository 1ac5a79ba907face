"""Measures of a score against good and bad, and their intervals by resampling whole persons.

A higher score always means a worse risk; label 1 is bad. Ties are exact: AUC counts a tied pair as one half, and KS is
read only where the score changes. Accuracy is not offered: with 5% bad it praises a constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zigong.errors import ConfigError, DataError

Floats = NDArray[np.float64]

_SMALLEST_P = 1e-12  # log-loss of a certain and wrong answer stays finite


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with the ends of its interval; ``low`` and ``high`` are percentiles of the resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Point figures of one model on one split."""

    samples: int
    bad: int
    auc: float
    ks: float
    mcc: float
    threshold: float
    brier: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class BootstrapResult:
    """Intervals per model from one shared resampling.

    Attributes:
        auc: AUC per model.
        ks: KS per model.
        mcc: MCC per model that has a threshold.
        auc_differences: AUC of the reference minus AUC of each other model, paired within a resample.
        clusters: persons in the sample.
        replicates: resamples used; one that drew no good or no bad person counts for nobody.
    """

    auc: Mapping[str, Interval]
    ks: Mapping[str, Interval]
    mcc: Mapping[str, Interval] = field(default_factory=dict)
    auc_differences: Mapping[str, Interval] = field(default_factory=dict)
    clusters: int
    replicates: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Cumulative shares from the worst score down, one point per distinct score, with (0, 0) in front.

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
        """Area under bad over good; the trapezoid through a tie is its midrank half."""
        return float(np.sum(np.diff(self.good) * (self.bad[1:] + self.bad[:-1])) / 2)


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """Scores sorted once: weights can change, the order cannot."""

    cuts: Floats  # distinct scores, descending
    place: NDArray[np.int64]  # index of each sample's score in cuts
    bad: NDArray[np.bool_]

    def curve(self, weights: Floats | None = None) -> Curve:
        mass = np.ones(len(self.place)) if weights is None else weights
        counts = (np.bincount(self.place, mass * side, len(self.cuts)) for side in (self.bad, ~self.bad))
        bad, good = (np.concatenate(([0.0], np.cumsum(count))) for count in counts)
        return Curve(cuts=self.cuts, bad=bad / bad[-1], good=good / good[-1])


def score_curve(labels: NDArray[np.integer], scores: Floats) -> Curve:
    """The ROC and KS curve of one model; AUC and KS are its properties.

    Raises:
        DataError: shapes differ, a score is not finite, or one class is missing.
    """
    return _ranked(labels, scores).curve()


def auc(labels: NDArray[np.integer], scores: Floats) -> float:
    """Probability that a bad sample outscores a good one, ties one half (Mann-Whitney)."""
    return score_curve(labels, scores).auc


def ks(labels: NDArray[np.integer], scores: Floats) -> float:
    """Kolmogorov-Smirnov distance between the score distributions of bad and good."""
    return score_curve(labels, scores).ks


def mcc(labels: NDArray[np.integer], scores: Floats, threshold: float) -> float:
    """Matthews correlation of label and ``score >= threshold``; 0 where a prediction is constant (Matthews 1975)."""
    bad = _checked(labels, scores)
    return _matthews(np.ones(len(bad)), bad, np.asarray(scores) >= threshold)


def best_mcc_threshold(labels: NDArray[np.integer], scores: Floats) -> float:
    """The score at or above which calling a sample bad gives the largest MCC; of equals the highest.

    Choose it on the split ``select`` and keep it for every other split.
    """
    ranked = _ranked(labels, scores)
    curve = ranked.curve()
    bad, good = int(ranked.bad.sum()), int((~ranked.bad).sum())
    hits, alarms = curve.bad[1:] * bad, curve.good[1:] * good
    called = hits + alarms
    spread = np.sqrt(called * (bad + good - called) * bad * good)
    values = np.divide(hits * good - alarms * bad, spread, out=np.zeros_like(hits), where=spread > 0.5)
    return float(curve.cuts[int(np.argmax(np.round(values, 12)))])


def brier(labels: NDArray[np.integer], p_bad: Floats) -> float:
    """Mean squared distance of probability and label."""
    return float(np.mean((np.asarray(p_bad, dtype=np.float64) - _checked(labels, p_bad)) ** 2))


def log_loss(labels: NDArray[np.integer], p_bad: Floats) -> float:
    """Mean negative log-likelihood in nats, with probabilities held off 0 and 1 by 1e-12."""
    bad = _checked(labels, p_bad)
    p = np.clip(np.asarray(p_bad, dtype=np.float64), _SMALLEST_P, 1 - _SMALLEST_P)
    return float(-np.mean(np.where(bad, np.log(p), np.log1p(-p))))


def measures(labels: NDArray[np.integer], p_bad: Floats, threshold: float) -> Measures:
    """All point figures of one model on one split."""
    curve = score_curve(labels, p_bad)
    return Measures(
        samples=len(labels),
        bad=int(np.sum(labels)),
        auc=curve.auc,
        ks=curve.ks,
        mcc=mcc(labels, p_bad, threshold),
        threshold=threshold,
        brier=brier(labels, p_bad),
        log_loss=log_loss(labels, p_bad),
    )


def clustered_bootstrap(
    labels: NDArray[np.integer],
    scores: Mapping[str, Floats],
    clusters: NDArray[np.generic],
    *,
    replicates: int,
    confidence: float,
    seed: int,
    reference: str | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> BootstrapResult:
    """Percentile intervals from drawing whole clusters with replacement (Field and Welsh 2007).

    Every model sees the same draws, so differences are paired. A draw only re-weights the samples, which are sorted
    once per model: a resample costs one pass, not one sort.

    Args:
        labels: 1 = bad; shape [samples].
        scores: per model, higher is worse; shape [samples] each.
        clusters: person of each sample; shape [samples].
        replicates: number of resamples.
        confidence: mass between low and high, such as 0.95.
        seed: of the draws.
        reference: model whose AUC the differences start from.
        thresholds: per model, the cut at which MCC is taken.

    Raises:
        DataError: a model does not cover the samples, or a class is missing.
        ConfigError: the reference or a threshold names no model.
    """
    thresholds = thresholds or {}
    _require_known({*thresholds, *([reference] if reference else [])}, scores)
    ranked = {model: _ranked(labels, values) for model, values in scores.items()}
    called = {model: np.asarray(scores[model]) >= cut for model, cut in thresholds.items()}
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    if len(member) != len(labels):
        raise _mismatch(len(labels), len(member), "clusters")
    bad = np.asarray(labels) == 1
    own = _figures(ranked, called, bad, np.ones(len(bad)))
    drawn = [_figures(ranked, called, bad, weights) for weights in _usable_draws(member, bad, replicates, seed)]
    if not drawn:
        raise _no_draws(replicates)
    rows = {model: np.array([own[model], *(figures[model] for figures in drawn)]) for model in scores}
    others = [model for model in scores if model != reference] if reference else []
    return BootstrapResult(
        auc={model: _interval(figures[:, 0], confidence) for model, figures in rows.items()},
        ks={model: _interval(figures[:, 1], confidence) for model, figures in rows.items()},
        mcc={model: _interval(rows[model][:, 2], confidence) for model in called},
        auc_differences={o: _interval(rows[reference or ""][:, 0] - rows[o][:, 0], confidence) for o in others},
        clusters=int(member.max()) + 1,
        replicates=len(drawn),
    )


def _interval(values: Floats, confidence: float) -> Interval:
    """First entry is the sample itself, the rest are resamples."""
    low, high = np.quantile(values[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=float(values[0]), low=float(low), high=float(high))


def _figures(
    ranked: Mapping[str, _Ranked],
    called: Mapping[str, NDArray[np.bool_]],
    bad: NDArray[np.bool_],
    weights: Floats,
) -> dict[str, tuple[float, float, float]]:
    """AUC, KS and MCC of every model under one set of weights; MCC is 0 without a threshold."""
    curves = {model: order.curve(weights) for model, order in ranked.items()}
    matthews = {model: _matthews(weights, bad, call) for model, call in called.items()}
    return {model: (curve.auc, curve.ks, matthews.get(model, 0.0)) for model, curve in curves.items()}


def _usable_draws(member: NDArray[np.int64], bad: NDArray[np.bool_], replicates: int, seed: int) -> Iterator[Floats]:
    """Weights of each sample per resample; draws without both classes have no AUC and are left out."""
    rng = np.random.default_rng(seed)
    persons = int(member.max()) + 1
    for _ in range(replicates):
        weights = np.bincount(rng.integers(persons, size=persons), minlength=persons).astype(np.float64)[member]
        if weights[bad].any() and weights[~bad].any():
            yield weights


def _matthews(weights: Floats, bad: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    total, positives, calls = float(weights.sum()), float(weights[bad].sum()), float(weights[called].sum())
    hits = float(weights[bad & called].sum())
    spread = calls * (total - calls) * positives * (total - positives)
    return (hits * total - calls * positives) / math.sqrt(spread) if spread > 0 else 0.0


def _ranked(labels: NDArray[np.integer], scores: Floats) -> _Ranked:
    bad = _checked(labels, scores)
    if bad.all() or not bad.any():
        raise DataError(
            f"expected good and bad samples, found {int(bad.sum())} bad of {len(bad)}",
            action="evaluate on a split that holds both classes: widen its dates or its share",
        )
    cuts, place = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    return _Ranked(cuts=cuts[::-1].copy(), place=len(cuts) - 1 - place, bad=bad)


def _checked(labels: NDArray[np.integer], scores: Floats) -> NDArray[np.bool_]:
    values = np.asarray(scores, dtype=np.float64)
    if len(labels) != len(values):
        raise _mismatch(len(labels), len(values), "scores")
    if not len(values) or not np.isfinite(values).all():
        broken = int(np.sum(~np.isfinite(values)))
        raise DataError(
            f"expected finite scores, found {broken} that are not among {len(values)}",
            action="look for the model that answered NaN; a miss must still carry a probability",
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError("expected labels 0 and 1, found others", action="drop indeterminate samples before evaluation")
    bad: NDArray[np.bool_] = np.asarray(labels) == 1
    return bad


def _no_draws(replicates: int) -> DataError:
    return DataError(
        f"expected resamples with good and bad samples, found none in {replicates} draws",
        action="evaluate on a split with more persons, or raise evaluation.bootstrap",
    )


def _mismatch(expected: int, found: int, what: str) -> DataError:
    return DataError(
        f"expected {expected} {what}, one per label, found {found}",
        action="score every model on the same samples in the same order",
    )


def _require_known(named: set[str], scores: Mapping[str, Floats]) -> None:
    unknown = named - set(scores)
    if unknown:
        raise ConfigError(
            f"expected names among {', '.join(scores)}, found {', '.join(sorted(unknown))}",
            action="name the reference and thresholds as in scores",
        )
