"""Intervals of metrics by resampling persons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zigong.errors import ConfigError, DataError
from zigong.evaluation.metrics import Floats, mismatch
from zigong.evaluation.resampled import INTERVAL_METRICS, Scored


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its interval; ``low`` and ``high`` are percentiles of the resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class BootstrapResult:
    """Intervals per model from one shared resampling.

    Attributes:
        figures: per metric, its figure per model; metrics at a threshold omit models that have none.
        auc_differences: AUC of the reference minus AUC of each other model, paired within a resample.
        clusters: persons in the sample.
        replicates: number of resamples used; those without good or without bad samples are excluded.
    """

    figures: Mapping[str, Mapping[str, Interval]]
    auc_differences: Mapping[str, Interval] = field(default_factory=dict)
    clusters: int
    replicates: int

    @property
    def auc(self) -> Mapping[str, Interval]:
        """AUC per model."""
        return self.figures["auc"]

    @property
    def ks(self) -> Mapping[str, Interval]:
        """KS per model."""
        return self.figures["ks"]

    @property
    def mcc(self) -> Mapping[str, Interval]:
        """MCC per model that has a threshold."""
        return self.figures["mcc"]


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
    missed: Mapping[str, NDArray[np.bool_]] | None = None,
) -> BootstrapResult:
    """Percentile intervals from resampling clusters with replacement (Field and Welsh 2007).

    All models share the resamples, so differences are paired. A resample only re-weights the samples, which are sorted
    once per model: it costs one pass, not one sort.

    Args:
        labels: 1 = bad; shape [samples].
        scores: per model, higher is worse; shape [samples] each.
        clusters: person of each sample; shape [samples].
        replicates: number of resamples.
        confidence: mass between low and high, such as 0.95.
        seed: seed of the resamples.
        reference: model whose AUC the others are subtracted from.
        thresholds: per model, the threshold of the metrics of a classification.
        missed: per model, whether it generated none of the choices; shape [samples] each.

    Raises:
        DataError: a model lacks scores of samples, or a class is missing.
        ConfigError: the reference, a threshold or misses are of an unknown model.
    """
    thresholds, missed = thresholds or {}, missed or {}
    _require_known({*thresholds, *missed, *([reference] if reference else [])}, scores)
    scored = {
        model: Scored.of(labels, values, threshold=thresholds.get(model), missed=missed.get(model))
        for model, values in scores.items()
    }
    if len(clusters) != len(labels):
        raise mismatch(len(labels), len(clusters), "clusters")
    bad = np.asarray(labels) == 1
    own = _figures(scored, np.ones(len(bad)))
    own |= {(metric, model): value for model, item in scored.items() for metric, value in item.values.items()}
    draws = resample_weights(clusters, replicates=replicates, seed=seed)
    # resamples without both classes have no AUC
    drawn = [_figures(scored, weights) for weights in draws if weights[bad].any() and weights[~bad].any()]
    if not drawn:
        raise _no_draws(replicates)
    rows = {key: np.array([value, *(figures[key] for figures in drawn)]) for key, value in own.items()}
    others = [model for model in scores if model != reference] if reference else []
    return BootstrapResult(
        figures={
            metric: {m: interval_of(rows[metric, m], confidence) for m in scores if (metric, m) in rows}
            for metric in INTERVAL_METRICS
        },
        auc_differences={
            other: interval_of(rows["auc", reference or ""] - rows["auc", other], confidence) for other in others
        },
        clusters=len(np.unique(np.asarray(clusters))),
        replicates=len(drawn),
    )


def interval_of(values: Floats, confidence: float) -> Interval:
    """The first value is of the sample itself, the others are of resamples; those without a value are excluded."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn if len(drawn) else values[:1], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=float(values[0]), low=float(low), high=float(high))


def resample_weights(clusters: NDArray[np.generic], *, replicates: int, seed: int) -> Iterator[Floats]:
    """How often each sample is drawn in each resample of its cluster; shape [samples] each."""
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    rng, persons = np.random.default_rng(seed), int(member.max()) + 1
    for _ in range(replicates):
        yield np.bincount(rng.integers(persons, size=persons), minlength=persons).astype(np.float64)[member]


def _figures(scored: Mapping[str, Scored], weights: Floats) -> dict[tuple[str, str], float]:
    """Every metric of every model with one set of weights, by metric and model."""
    return {
        (metric, model): value for model, item in scored.items() for metric, value in item.measured(weights).items()
    }


def _no_draws(replicates: int) -> DataError:
    return DataError(
        f"expected resamples with good and bad samples, found none in {replicates} draws",
        action="evaluate on a split with more persons, or raise evaluation.bootstrap",
    )


def _require_known(named: set[str], scores: Mapping[str, Floats]) -> None:
    unknown = named - set(scores)
    if unknown:
        raise ConfigError(
            f"expected models among {', '.join(scores)}, found {', '.join(sorted(unknown))}",
            action="use the names of the scores for the reference and the thresholds",
        )
