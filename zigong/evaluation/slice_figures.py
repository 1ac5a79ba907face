"""Figures of parts of the final split: slices, score deciles and fairness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zigong.evaluation.bootstrap import Interval
from zigong.evaluation.groups import FEWEST, Draws, decile_bad_rates, fairness
from zigong.evaluation.held_out import Figure, Published, part_figures
from zigong.evaluation.metrics import auc
from zigong.evaluation.slices import Words, slice_names
from zigong.recipe import Evaluation

FOUR_FIFTHS = 0.8
SHARE = "share"  # of the samples of the split
IMPACT, OPPORTUNITY = "adverse_impact_ratio", "equal_opportunity_difference"


@dataclass(frozen=True, kw_only=True)
class SplitSamples:
    """The samples of one split.

    Attributes:
        split: name of the split.
        labels: 1 = bad; shape [samples].
        clusters: person of each sample; shape [samples].
        published: the compared models on these samples.
    """

    split: str
    labels: NDArray[np.int64]
    clusters: NDArray[np.generic]
    published: Published


def compared_models(labels: NDArray[np.integer], scores: Mapping[str, NDArray[np.float64]], final: str) -> list[str]:
    """The evaluated model and the best other one by AUC on these samples (``select``)."""
    others = sorted(set(scores) - {final}, key=lambda model: (-auc(labels, scores[model]), model))
    return [final, *others[:1]]


def sliced_figures(
    samples: SplitSamples, slices: Mapping[str, Words], *, final: str, settings: Evaluation, seed: int
) -> list[Figure]:
    """Every metric of every model on every slice; a slice that is too small or has one class is only counted.

    Args:
        samples: the samples of the split.
        slices: slice of each sample in each respect; shape [samples] each.
        final: the evaluated model.
        settings: number of resamples and confidence.
        seed: seed of the resamples.
    """
    figures = []
    for name, chosen in slice_names(slices):
        size, labels = int(chosen.sum()), samples.labels[chosen]
        figures.append(_counted(samples, final, name, size))
        if size >= FEWEST and 0 < labels.sum() < size:
            figures += part_figures(
                labels,
                samples.published.where(chosen),
                samples.clusters[chosen],
                split=samples.split,
                final=final,
                settings=settings,
                seed=seed,
                slice_name=name,
            )
    return figures


def decile_figures(samples: SplitSamples, *, settings: Evaluation, seed: int) -> list[Figure]:
    """The bad rate of each score decile of every model, 1 = highest scores."""
    draws = _draws(samples, settings, seed)
    return [
        _figure(samples, model, f"score_decile={decile}", "bad_rate", rate, size)
        for model, scores in samples.published.scores.items()
        for decile, (size, rate) in decile_bad_rates(samples.labels, scores, draws).items()
    ]


def fairness_figures(
    samples: SplitSamples,
    groups: Mapping[str, Words],
    references: Mapping[str, str],
    *,
    final: str,
    settings: Evaluation,
    seed: int,
) -> list[Figure]:
    """Adverse impact ratio and equal opportunity difference of the evaluated model at its threshold.

    Args:
        samples: the samples of the split.
        groups: value of each configured attribute; shape [samples] each.
        references: the value of each attribute that the others are compared with.
        final: the evaluated model.
        settings: number of resamples and confidence.
        seed: seed of the resamples.

    Raises:
        ConfigError: no sample has a reference value.
    """
    draws, figures = _draws(samples, settings, seed), []
    called = samples.published.scores[final] >= samples.published.thresholds[final]
    for attribute, words in groups.items():
        for value, found in fairness(words, references[attribute], samples.labels, called, draws).items():
            name = f"{attribute}={value}"
            figures += [
                _figure(samples, final, name, metric, interval, found.samples)
                for metric, interval in (
                    (IMPACT, found.impact_ratio),
                    (OPPORTUNITY, found.opportunity_difference),
                )
                if interval is not None
            ]
            figures.append(_counted(samples, final, name, found.samples))
    return figures


def fairness_warnings(figures: Iterable[Figure]) -> tuple[str, ...]:
    """Groups whose adverse impact ratio is below four fifths (EEOC 1978), one sentence each."""
    return tuple(
        f"the adverse impact ratio of {figure.slice} is {figure.value:.2f}, below {FOUR_FIFTHS}: clients of this group "
        "are classified as bad more often than the reference; find out why before the scores are used"
        for figure in figures
        if figure.metric == IMPACT and figure.value < FOUR_FIFTHS
    )


def _draws(samples: SplitSamples, settings: Evaluation, seed: int) -> Draws:
    return Draws(clusters=samples.clusters, replicates=settings.bootstrap, confidence=settings.confidence, seed=seed)


def _counted(samples: SplitSamples, model: str, name: str, size: int) -> Figure:
    return _figure(samples, model, name, SHARE, size / len(samples.labels), size)


def _figure(samples: SplitSamples, model: str, name: str, metric: str, found: Interval | float, size: int) -> Figure:
    value, low, high = (found.value, found.low, found.high) if isinstance(found, Interval) else (found, None, None)
    return Figure(
        model_id=model,
        split=samples.split,
        slice=name,
        metric=metric,
        value=value,
        low=low,
        high=high,
        samples=size,
    )
