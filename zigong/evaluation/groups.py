"""Rates of groups of samples with clustered intervals: bad rate by score decile, and fairness between groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zigong.errors import ConfigError
from zigong.evaluation.bootstrap import Interval, interval_of, resample_weights
from zigong.evaluation.metrics import Floats

Bools = NDArray[np.bool_]

DECILES = 10
FEWEST = 30  # samples of a group that is judged; smaller ones are counted


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How intervals are drawn.

    Attributes:
        clusters: person of each sample; shape [samples].
        replicates: number of resamples.
        confidence: mass between low and high.
        seed: seed of the resamples.
    """

    clusters: NDArray[np.generic]
    replicates: int
    confidence: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class GroupFairness:
    """One group against the reference group.

    Attributes:
        samples: samples of the group.
        impact_ratio: share of the group that is not classified as bad, divided by that of the reference.
        opportunity_difference: the same share among the good of the group, minus that of the reference.
    """

    samples: int
    impact_ratio: Interval | None
    opportunity_difference: Interval | None


def score_deciles(scores: Floats) -> NDArray[np.int64]:
    """Decile of each sample by its own sample's scores, 1 = highest scores; equal scores share a decile.

    A decile is empty where ties are larger than a tenth.
    """
    values = np.asarray(scores, dtype=np.float64)
    cuts = np.quantile(values, np.arange(1, DECILES) / DECILES)
    return np.asarray(DECILES - np.searchsorted(cuts, values, side="right"), dtype=np.int64)


def group_rates(groups: NDArray[np.generic], events: Bools, among: Bools, draws: Draws) -> dict[str, Floats]:
    """The share of events among some of the samples of each group.

    Args:
        groups: group of each sample; shape [samples].
        events: the counted samples; shape [samples].
        among: the samples that the share refers to; shape [samples].
        draws: how the resamples are drawn.

    Returns:
        By group the share in the sample and then in each resample, NaN where it has none; shape [1 + resamples].
    """
    names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    inside = place[:, None] == np.arange(len(names))
    terms = np.hstack([inside & (events & among)[:, None], inside & among[:, None]]).astype(np.float64)
    weights = resample_weights(draws.clusters, replicates=draws.replicates, seed=draws.seed)
    sums = np.array([terms.sum(axis=0), *(drawn @ terms for drawn in weights)])
    counted, total = sums[:, : len(names)], sums[:, len(names) :]
    rates = np.divide(counted, total, out=np.full_like(counted, np.nan), where=total > 0)
    return {str(name): rates[:, number] for number, name in enumerate(names)}


def decile_bad_rates(labels: NDArray[np.integer], scores: Floats, draws: Draws) -> dict[int, tuple[int, Interval]]:
    """Samples and bad rate of each score decile, 1 = highest scores."""
    deciles, everyone = score_deciles(scores), np.ones(len(labels), dtype=bool)
    rates = group_rates(deciles, np.asarray(labels) == 1, everyone, draws)
    return {
        decile: (int(np.sum(deciles == decile)), interval_of(rates[str(decile)], draws.confidence))
        for decile in sorted(map(int, rates))
    }


def fairness(
    groups: NDArray[np.generic], reference: str, labels: NDArray[np.integer], called: Bools, draws: Draws
) -> Mapping[str, GroupFairness]:
    """Adverse impact ratio and equal opportunity difference of each group (EEOC 1978; Hardt et al. 2016).

    The favourable outcome is not to be classified as bad.

    Args:
        groups: value of the attribute of each sample; shape [samples].
        reference: value that the others are compared with.
        labels: 1 = bad; shape [samples].
        called: whether each sample is classified as bad; shape [samples].
        draws: how the intervals are drawn.

    Returns:
        By group; no figures for a group with fewer than ``FEWEST`` samples, nor where the reference has so few.

    Raises:
        ConfigError: no sample has the reference value.
    """
    names, sizes = np.unique(np.asarray(groups, dtype=str), return_counts=True)
    counts = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    if reference not in counts:
        raise ConfigError(
            f"evaluation.fairness: no held-out sample has the reference value {reference!r}",
            action="name a frequent value of the attribute as its reference",
        )
    good = np.asarray(labels) == 0
    spared = group_rates(groups, ~called, np.ones(len(good), dtype=bool), draws)
    opportunity = group_rates(groups, ~called, good, draws)
    found = {}
    for name, size in counts.items():
        few = min(size, counts[reference]) < FEWEST
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = spared[name] / spared[reference]
        difference = opportunity[name] - opportunity[reference]
        found[name] = GroupFairness(
            samples=size,
            impact_ratio=_finite(ratio, few, draws),
            opportunity_difference=_finite(difference, few, draws),
        )
    return found


def _finite(values: Floats, few: bool, draws: Draws) -> Interval | None:
    return None if few or not np.isfinite(values[0]) else interval_of(values, draws.confidence)
