"""Figures of answers, with intervals: of classes by scikit-learn, of probabilities by ``zigong.evaluation.metrics``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from zigong.calm.answers import Answers, Floats, Numbers
from zigong.calm.task_files import Task
from zigong.errors import DataError
from zigong.evaluation.bootstrap import Interval
from zigong.evaluation.metrics import rank_scores, score_curve

CLASS_MEASURES, SCORE_MEASURES = ("accuracy", "f1", "macro_f1", "miss", "mcc"), ("auc", "ks")
MEASURES = (*CLASS_MEASURES, *SCORE_MEASURES)
REPLICATES, CONFIDENCE = 2000, 0.95


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The answers of one model as numbers.

    Attributes:
        expected: index of the expected choice; shape [N].
        given: index of the given choice, the number of choices for a miss; shape [N].
        bad: index of the bad choice.
        choices: number of choices.
        p_bad: probability of the bad choice; shape [N]. None: no AUC and no KS.
    """

    expected: Numbers
    given: Numbers
    bad: int
    choices: int
    p_bad: Floats | None

    @classmethod
    def of(cls, answers: Answers, task: Task) -> Outcome:
        """The outcome of answers to a task.

        Raises:
            DataError: an expected text is none of the task's choices.
        """
        return cls(
            expected=answers.expected(task.choices),
            given=answers.given(task.choices),
            bad=task.choices.index(task.bad),
            choices=len(task.choices),
            p_bad=None if answers.p_bad is None else np.array(answers.p_bad),
        )


def figures(outcome: Outcome) -> dict[str, float]:
    """Accuracy, weighted and macro F1, share of misses, MCC, and AUC and KS where probabilities exist.

    A miss is wrong: it lowers accuracy and recall, and for MCC it is a class of its own. F1 is averaged over the
    choices by their expected shares (``f1``) or equally (``macro_f1``).
    """
    expected, given, choices = outcome.expected, outcome.given, list(range(outcome.choices))
    found = {
        "accuracy": float(accuracy_score(expected, given)),
        "f1": float(f1_score(expected, given, labels=choices, average="weighted", zero_division=0)),
        "macro_f1": float(f1_score(expected, given, labels=choices, average="macro", zero_division=0)),
        "miss": float(np.mean(given == outcome.choices)),
        "mcc": float(matthews_corrcoef(expected, given)),
    }
    bad = (expected == outcome.bad).astype(np.int64)
    if outcome.p_bad is None or not 0 < bad.sum() < len(bad):
        return found
    curve = score_curve(bad, outcome.p_bad)
    return {**found, "auc": curve.auc, "ks": curve.ks}


def figures_of_seeds(outcomes: Sequence[Outcome], *, seed: int) -> dict[str, Interval]:
    """Mean figures of models that differ only in their seed, with percentile intervals over resampled records.

    A resample draws records with replacement, the same ones for every seed; so an interval contains the chance of the
    test records, not that of the seeds.

    Raises:
        DataError: the models answered different records.
    """
    first = outcomes[0]
    if any(not np.array_equal(first.expected, other.expected) for other in outcomes):
        raise DataError("the seeds answered different records", action="answer one split with every seed")
    generator, count = np.random.default_rng(seed), len(first.expected)
    weights = np.stack([np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(REPLICATES)])
    values, drawn = [figures(one) for one in outcomes], [resampled_figures(one, weights) for one in outcomes]
    return {
        name: _interval(float(np.mean([one[name] for one in values])), np.mean([one[name] for one in drawn], axis=0))
        for name in values[0]
    }


def resampled_figures(outcome: Outcome, weights: NDArray[np.integer]) -> dict[str, Floats]:
    """The same figures of every resample, as arrays of shape [R]; AUC and KS of resamples with one class are NaN.

    scikit-learn takes a thousand times as long, since it validates and encodes the labels of every resample.

    Args:
        outcome: the answers.
        weights: how often each resample draws each record; shape [R, N].
    """
    cells = outcome.expected * (outcome.choices + 1) + outcome.given
    shape = (outcome.choices, outcome.choices + 1)
    counts: Floats = np.stack([np.bincount(cells, one, shape[0] * shape[1]).reshape(shape) for one in weights]).astype(
        float
    )
    found = _of_counts(counts)
    if outcome.p_bad is None:
        return found
    bad = outcome.expected == outcome.bad
    ranked = rank_scores(bad.astype(np.int64), outcome.p_bad)
    both = (weights[:, bad].sum(1) > 0) & (weights[:, ~bad].sum(1) > 0)
    curves = [
        ranked.curve(one.astype(np.float64)) if usable else None for one, usable in zip(weights, both, strict=True)
    ]
    auc, ks = (np.array([np.nan if one is None else getattr(one, name) for one in curves]) for name in SCORE_MEASURES)
    return {**found, "auc": auc, "ks": ks}


def _of_counts(counts: Floats) -> dict[str, Floats]:
    """Class figures of counts by expected and given choice, the last given one being the misses: [R, C, C + 1]."""
    total = counts.sum((1, 2))
    expected, given, hits = counts.sum(2), counts.sum(1), np.diagonal(counts, axis1=1, axis2=2)
    f1 = _ratio(2 * hits, expected + given[:, :-1])
    right = hits.sum(1)
    covariance = right * total - (expected * given[:, :-1]).sum(1)
    spread = np.sqrt((total**2 - (given**2).sum(1)) * (total**2 - (expected**2).sum(1)))
    return {
        "accuracy": right / total,
        "f1": (expected * f1).sum(1) / total,
        "macro_f1": f1.mean(1),
        "miss": given[:, -1] / total,
        "mcc": _ratio(covariance, spread),
    }


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _interval(value: float, drawn: Floats) -> Interval:
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=value, low=float(low), high=float(high))
