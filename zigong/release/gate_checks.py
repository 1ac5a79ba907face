"""The conditions of the gate: what was observed, the bound, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from zigong.evaluation.bootstrap import Interval
from zigong.recipe import Gate

IMPLAUSIBLE_AUC = 0.98
EQUAL_ANSWERS = 1e-4  # largest difference of p_bad that batches of other shapes can make

_ROUNDING = 1e-9  # two equal AUCs, summed in another order, differ by less


@dataclass(frozen=True, kw_only=True)
class Check:
    """One condition of the gate and its result.

    Attributes:
        name: short name.
        passed: the verdict.
        sentence: observation and verdict in words.
        observed: the compared number; None where there is nothing to compare.
        bound: the condition on it, such as ``>= -0.02``.
    """

    name: str
    passed: bool
    sentence: str
    observed: float | None = None
    bound: str = ""


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


def beats(name: str, difference: Interval, confidence: float) -> Check:
    """Whether the AUC is above another model's, beyond chance."""
    passed = difference.low > _ROUNDING
    model = "the last-status lookup" if name == "last_status" else name
    return Check(
        name=f"beats_{name}",
        passed=passed,
        sentence=f"AUC is {'above' if passed else 'not clearly above'} that of {model}: "
        f"{_formatted(difference, confidence)}, and the lower bound must exceed 0.",
        observed=difference.low,
        bound="> 0",
    )


def exceeds_mcc(found: Interval, least: float) -> Check:
    """Whether the classification is better than that of a constant."""
    passed = found.value > least
    return Check(
        name="min_mcc",
        passed=passed,
        sentence=f"MCC at the threshold from select is {found.value:.3f}, which is {'' if passed else 'not '}above "
        f"the required {least:.3f}.",
        observed=found.value,
        bound=f"> {least:g}",
    )


def not_inferior(difference: Interval, tolerated: float, confidence: float) -> Check:
    """Whether a larger loss against the champion than tolerated can be excluded."""
    return _bounded_loss("not_inferior", "the champion", difference, tolerated, confidence)


def near_best_baseline(
    differences: Mapping[str, Interval], auc: Mapping[str, Interval], tolerated: float, confidence: float
) -> Check:
    """Whether a larger loss than tolerated against the baseline with the largest AUC can be excluded."""
    best = max(sorted(differences), key=lambda name: auc[name].value)
    return _bounded_loss("near_best_baseline", f"the best baseline, {best}:", differences[best], tolerated, confidence)


def _bounded_loss(name: str, other: str, difference: Interval, tolerated: float, confidence: float) -> Check:
    passed = difference.low >= -tolerated - _ROUNDING
    verdict = "excludes" if passed else "does not exclude"
    return Check(
        name=name,
        passed=passed,
        sentence=f"Against {other} {_formatted(difference, confidence)}, which {verdict} a loss of more than "
        f"{tolerated:.4f}.",
        observed=difference.low,
        bound=f">= {-tolerated:g}",
    )


def no_champion() -> Check:
    """A first model has nothing to be compared with."""
    return Check(name="not_inferior", passed=True, sentence="There is no champion to compare it with.")


def replaces(difference: Interval, ends: Ending, tolerated: float, confidence: float) -> Check:
    """Comparison with a champion that has to be replaced."""
    why = f"The champion was trained on erased users and has to be replaced no later than {ends.retrain_by}"
    if ends.is_overdue:
        rest = f", which has passed: {_formatted(difference, confidence)}; the comparison does not affect the decision."
        return Check(name="not_inferior", passed=True, sentence=why + rest, observed=difference.low)
    usual = not_inferior(difference, tolerated, confidence)
    return Check(
        name=usual.name,
        passed=usual.passed,
        sentence=f"{why}. {usual.sentence}",
        observed=usual.observed,
        bound=usual.bound,
    )


def plausible(auc: Mapping[str, Interval], gate: Gate, alarms: Sequence[str]) -> Check:
    """Whether nothing separates the classes almost perfectly, which would be a sign of leakage."""
    models = [f"AUC of {name} is {found.value:.3f}" for name, found in auc.items() if found.value > IMPLAUSIBLE_AUC]
    found = [*alarms, *models]
    if not found:
        sentence = f"No single attribute separates the classes, and no model has an AUC above {IMPLAUSIBLE_AUC}."
    else:
        sentence = (
            f"Possible leakage of the outcome: {'; '.join(found)}. Check when its values become known (zigong "
            "audit-leakage); once they are proven to be known before T, set gate.alarm: warn."
        )
    return Check(
        name="plausible",
        passed=not found or gate.alarm == "warn",
        sentence=sentence,
        observed=max(interval.value for interval in auc.values()),
        bound=f"<= {IMPLAUSIBLE_AUC}, without alarms",
    )


def beats_constant(measure: str, observed: float, constant: float) -> Check:
    """Whether a loss of the probabilities is below that of the bad rate of ``select`` for everybody."""
    passed = observed < constant
    title = {"brier": "Brier score", "log_loss": "Log-loss"}[measure]
    return Check(
        name=f"{measure}_below_constant",
        passed=passed,
        sentence=f"{title} is {observed:.4f}, which is {'' if passed else 'not '}below a constant's {constant:.4f}.",
        observed=observed,
        bound=f"< {constant:.4f}",
    )


def calibrated_slope(found: Interval | None, least: float | None, largest: float | None) -> Check:
    """Whether the probabilities are neither too extreme (slope below 1) nor too cautious (above 1)."""
    ends = (f">= {least:g}" if least is not None else "", f"<= {largest:g}" if largest is not None else "")
    bound = " and ".join(filter(None, ends))
    if found is None:
        return Check(
            name="calibration_slope",
            passed=False,
            sentence=f"The calibrated probabilities are constant and have no calibration slope; it must be {bound}.",
            bound=bound,
        )
    passed = (least is None or found.value >= least) and (largest is None or found.value <= largest)
    return Check(
        name="calibration_slope",
        passed=passed,
        sentence=f"The calibration slope is {found.value:.2f} ({found.low:.2f} to {found.high:.2f}); "
        f"it must be {bound}.",
        observed=found.value,
        bound=bound,
    )


def stable_scores(psi: float, largest: float) -> Check:
    """Whether the scores of the held-out samples are distributed like those of ``select``."""
    passed = psi <= largest
    return Check(
        name="psi",
        passed=passed,
        sentence=f"The stability index of the scores against select is {psi:.3f}, which is "
        f"{'not ' if passed else ''}above {largest:g}.",
        observed=psi,
        bound=f"<= {largest:g}",
    )


def answers_every_prompt(share: float, largest: float) -> Check:
    """Whether the model would generate one of the choices."""
    passed = share <= largest
    return Check(
        name="miss",
        passed=passed,
        sentence=f"The model answers {share:.2%} of the prompts with none of the choices; tolerated are {largest:.2%}.",
        observed=share,
        bound=f"<= {largest:g}",
    )


def uses_training(change: float) -> Check:
    """Whether the answers differ from those of the base without an adapter."""
    passed = change > EQUAL_ANSWERS
    verdict = "so it uses its training" if passed else "so its answers equal the base's: the adapter has no effect"
    return Check(
        name="differs_from_base",
        passed=passed,
        sentence=f"The largest change of a probability against the base is {change:.2g}, {verdict}.",
        observed=change,
        bound=f"> {EQUAL_ANSWERS:g}",
    )


def _formatted(difference: Interval, confidence: float) -> str:
    return (
        f"the paired difference is {difference.value:+.4f} "
        f"({confidence:.0%} interval {difference.low:+.4f} to {difference.high:+.4f})"
    )
