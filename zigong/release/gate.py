"""Whether a challenger may replace the champion: a pure function of scores of the same held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zigong.errors import ConfigError
from zigong.evaluation.bootstrap import BootstrapResult, Interval, clustered_bootstrap
from zigong.recipe import Evaluation, Gate

Floats = NDArray[np.float64]

CHALLENGER, CHAMPION, LAST_STATUS, LIGHTGBM = "challenger", "champion", "last_status", "lightgbm"

IMPLAUSIBLE_AUC = 0.98

_ROUNDING = 1e-9  # two equal AUCs, summed in another order, differ by less


@dataclass(frozen=True, kw_only=True)
class Check:
    """One condition of the gate and its result."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The deadline of a champion that was trained on erased users.

    Attributes:
        retrain_by: last day on which it may still be the champion.
        today: the day of the decision.
    """

    retrain_by: date
    today: date

    @property
    def is_overdue(self) -> bool:
        """Whether the last day has passed."""
        return self.today > self.retrain_by


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision of the gate.

    Attributes:
        decision: released only if every check passed.
        reasons: one sentence per failed check if refused, per check if released.
        checks: every condition, passed or not.
        figures: the numbers in the sentences, for metrics and tables.
        warnings: findings to review that do not affect the decision.
    """

    decision: Literal["released", "refused"]
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    figures: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def decide(
    *,
    labels: NDArray[np.integer],
    clusters: NDArray[np.generic],
    scores: Mapping[str, Floats],
    threshold: float,
    gate: Gate,
    evaluation: Evaluation,
    seed: int,
    champion_ends: Ending | None = None,
    alarms: Sequence[str] = (),
) -> Decision:
    """Compares a challenger with the lookup, the champion and a constant.

    It is released if all of these hold:

    - the paired AUC difference to the last-status lookup has a lower bound above 0 (``gate.beat_last_status``);
    - MCC at the threshold, which was chosen on ``select`` and not on these samples, is above ``gate.min_mcc``;
    - non-inferiority: the lower bound of the paired AUC difference to the champion is not below
      ``-gate.max_auc_loss``. It is refused if the samples are too few to exclude a
      larger loss;
    - nothing separates the classes almost perfectly (``gate.alarm``): no attribute of the dataset, and no model with an
      AUC above ``IMPLAUSIBLE_AUC``. Behaviour does not determine the outcome; an input that leaks it does.

    A champion that was trained on erased users has to be replaced by a date. Until then its replacement may lose up to
    ``gate.max_auc_loss_of_replacement`` against it; afterwards the comparison is reported and does not decide, since
    the champion has to be replaced. The other conditions are the same.

    The difference to LightGBM is reported only and does not affect the decision.

    Args:
        labels: labels of the held-out split, 1 = bad; shape [samples].
        clusters: person of each sample; shape [samples].
        scores: p_bad of ``challenger`` and ``last_status``, and of ``champion`` and ``lightgbm`` where they exist.
        threshold: probability at or above which the challenger classifies a sample as bad.
        gate: the conditions.
        evaluation: number of resamples and confidence.
        seed: seed of the resamples.
        champion_ends: when the champion has to be replaced, None if it may stay.
        alarms: sentences about attributes of the dataset that alone separate the classes.

    Raises:
        ConfigError: the challenger or the lookup has no scores.
        DataError: scores do not cover the samples, or a class is missing.
    """
    absent = {CHALLENGER, LAST_STATUS} - set(scores)
    if absent:
        raise ConfigError(
            f"expected scores of challenger and last_status, found none of {', '.join(sorted(absent))}",
            action="score both on the held-out split before the gate",
        )
    result = clustered_bootstrap(
        labels,
        scores,
        clusters,
        replicates=evaluation.bootstrap,
        confidence=evaluation.confidence,
        seed=seed,
        reference=CHALLENGER,
        thresholds={CHALLENGER: threshold},
    )
    checks = (_plausible(result, gate, alarms), *_checks(result, gate, evaluation.confidence, champion_ends))
    failed = tuple(check.sentence for check in checks if not check.passed)
    return Decision(
        decision="refused" if failed else "released",
        reasons=failed or tuple(check.sentence for check in checks),
        checks=checks,
        figures=_figures(result, threshold),
    )


def _checks(result: BootstrapResult, gate: Gate, confidence: float, ends: Ending | None) -> tuple[Check, ...]:
    checks = [_exceeds_mcc(result.mcc[CHALLENGER], gate.min_mcc)]
    if gate.beat_last_status:
        checks.insert(0, _beats_lookup(result.auc_differences[LAST_STATUS], confidence))
    difference = result.auc_differences.get(CHAMPION)
    if difference is not None and ends is not None:
        checks.append(_replaces(difference, ends, gate.max_auc_loss_of_replacement, confidence))
    elif difference is not None:
        checks.append(_not_inferior(difference, gate.max_auc_loss, confidence))
    else:
        checks.append(Check(name="not_inferior", passed=True, sentence="There is no champion to compare it with."))
    return tuple(checks)


def _beats_lookup(difference: Interval, confidence: float) -> Check:
    passed = difference.low > _ROUNDING
    verdict = "above" if passed else "not clearly above"
    return Check(
        name="beats_last_status",
        passed=passed,
        sentence=f"AUC is {verdict} that of the last-status lookup: {_formatted(difference, confidence)}, and the "
        "lower bound must exceed 0.",
    )


def _exceeds_mcc(found: Interval, least: float) -> Check:
    passed = found.value > least
    return Check(
        name="min_mcc",
        passed=passed,
        sentence=f"MCC at the threshold from select is {found.value:.3f}, which is {'' if passed else 'not '}above "
        f"the required {least:.3f}.",
    )


def _not_inferior(difference: Interval, tolerated: float, confidence: float) -> Check:
    passed = difference.low >= -tolerated - _ROUNDING
    verdict = "excludes" if passed else "does not exclude"
    return Check(
        name="not_inferior",
        passed=passed,
        sentence=f"Against the champion {_formatted(difference, confidence)}, which {verdict} a loss of more than "
        f"{tolerated:.4f}.",
    )


def _replaces(difference: Interval, ends: Ending, tolerated: float, confidence: float) -> Check:
    """Comparison with a champion that has to be replaced."""
    why = f"The champion was trained on erased users and has to be replaced no later than {ends.retrain_by}"
    if ends.is_overdue:
        passed, rest = (
            True,
            f", which has passed: {_formatted(difference, confidence)}; the comparison does not affect the decision.",
        )
    else:
        usual = _not_inferior(difference, tolerated, confidence)
        passed, rest = usual.passed, f". {usual.sentence}"
    return Check(name="not_inferior", passed=passed, sentence=why + rest)


def _plausible(result: BootstrapResult, gate: Gate, alarms: Sequence[str]) -> Check:
    models = [
        f"AUC of {name} is {found.value:.3f}" for name, found in result.auc.items() if found.value > IMPLAUSIBLE_AUC
    ]
    found = [*alarms, *models]
    if not found:
        sentence = f"No single attribute separates the classes, and no model has an AUC above {IMPLAUSIBLE_AUC}."
    else:
        sentence = (
            f"Possible leakage of the outcome: {'; '.join(found)}. Check when its values become known (zigong "
            "audit-leakage); once they are proven to be known before T, set gate.alarm: warn."
        )
    return Check(name="plausible", passed=not found or gate.alarm == "warn", sentence=sentence)


def _formatted(difference: Interval, confidence: float) -> str:
    return (
        f"the paired difference is {difference.value:+.4f} "
        f"({confidence:.0%} interval {difference.low:+.4f} to {difference.high:+.4f})"
    )


def _figures(result: BootstrapResult, threshold: float) -> dict[str, float]:
    named = {
        "auc": result.auc[CHALLENGER],
        "ks": result.ks[CHALLENGER],
        "mcc": result.mcc[CHALLENGER],
        **{f"auc_minus_{other}": difference for other, difference in result.auc_differences.items()},
    }
    ends = {f"{name}_{end}": getattr(found, end) for name, found in named.items() for end in ("low", "high")}
    values = {name: found.value for name, found in named.items()}
    return {**values, **ends, "threshold": threshold, "persons": float(result.clusters)}
