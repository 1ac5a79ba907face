"""AUC and KS of repeated trainings of several kinds, and their lead over one kind, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zigong.evaluation.bootstrap import interval_of, resample_weights
from zigong.evaluation.metrics import Ranked
from zigong.tokens.samples import Indices

Floats = NDArray[np.float64]

RANGES = ("auc", "ks", "lead")


def with_ends(names: Sequence[str] = RANGES) -> tuple[str, ...]:
    """The columns of figures with intervals: name, name_low and name_high of each."""
    return tuple(f"{name}{end}" for name in names for end in ("", "_low", "_high"))


def compared_trainings(
    kinds: Mapping[str, Sequence[Ranked]],
    persons: NDArray[np.generic],
    numbers: Sequence[Indices],
    *,
    reference: str,
    resamples: int,
    seed: int,
    confidence: float,
) -> dict[str, dict[str, float]]:
    """Figures of each kind: the mean over its trainings, with an interval over persons and trainings.

    An interval resamples persons and, with them, the seeds and within each seed its draws, which all kinds share. With
    few seeds it is too narrow: three of them vary less than all that there could be.

    Args:
        kinds: the ranked answers of every training of a kind; kinds have equally many, in the same order of seeds.
        persons: person of each sample; shape [samples].
        numbers: numbers of the trainings of each seed.
        reference: the kind whose AUC is subtracted in ``lead``.
        resamples: number of resamples.
        seed: seed of the resamples.
        confidence: coverage of the intervals.

    Returns:
        By kind ``trainings``, and ``RANGES`` with their ends.
    """
    generator = np.random.default_rng([seed, 5])
    bad = next(iter(kinds.values()))[0].bad
    drawn = [_measured(kinds, np.ones(len(persons)), np.concatenate(numbers))]
    for weights in resample_weights(persons, replicates=resamples, seed=seed):
        if weights[bad].any() and weights[~bad].any():
            drawn.append(_measured(kinds, weights, drawn_trainings(numbers, generator)))
    values: dict[str, dict[str, float]] = {}
    for kind, ranked in kinds.items():
        found = {name: np.array([one[kind, name] for one in drawn]) for name in ("auc", "ks")}
        found["lead"] = found["auc"] - np.array([one[reference, "auc"] for one in drawn])
        values[kind] = {"trainings": len(ranked)}
        for name in RANGES:
            item = interval_of(found[name], confidence)
            values[kind] |= {name: item.value, f"{name}_low": item.low, f"{name}_high": item.high}
    return values


def drawn_trainings(numbers: Sequence[Indices], generator: np.random.Generator) -> Indices:
    """Trainings drawn in two stages, with replacement: seeds, and as many draws of each as it has.

    Args:
        numbers: numbers of the trainings of each seed.
        generator: random numbers.
    """
    seeds = generator.integers(len(numbers), size=len(numbers))
    return np.concatenate([generator.choice(numbers[seed], size=len(numbers[seed])) for seed in seeds])


def _measured(
    kinds: Mapping[str, Sequence[Ranked]], weights: Floats, trainings: Indices
) -> dict[tuple[str, str], float]:
    """Mean AUC and KS of the named trainings of each kind."""
    found = {}
    for kind, ranked in kinds.items():
        curves = {number: ranked[number].curve(weights) for number in set(trainings.tolist())}
        chosen = [curves[number] for number in trainings.tolist()]
        found[kind, "auc"] = float(np.mean([curve.auc for curve in chosen]))
        found[kind, "ks"] = float(np.mean([curve.ks for curve in chosen]))
    return found
