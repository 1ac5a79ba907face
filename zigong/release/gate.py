"""Whether a challenger may replace the champion: a pure function of scores of the same held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zigong.errors import ConfigError
from zigong.evaluation.bootstrap import BootstrapResult, clustered_bootstrap
from zigong.evaluation.metrics import brier, log_loss
from zigong.evaluation.shift import score_psi
from zigong.recipe import Evaluation, Gate
from zigong.release import gate_checks
from zigong.release.gate_checks import Check, Ending

Floats = NDArray[np.float64]

CHALLENGER, CHAMPION, LAST_STATUS = "challenger", "champion", "last_status"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a challenger apart from its scores on the held-out split.

    Attributes:
        select_scores: its calibrated p_bad on ``select``; shape [samples of select].
        bad_rate: bad rate of ``select``, the constant that its probabilities are compared with.
        missed: share of the held-out prompts that it answers with none of the choices.
        change_from_base: largest difference of p_bad against the base without its adapter.
    """

    select_scores: Floats
    bad_rate: float
    missed: float
    change_from_base: float


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
    evidence: Evidence,
    gate: Gate,
    evaluation: Evaluation,
    seed: int,
    champion_ends: Ending | None = None,
    alarms: Sequence[str] = (),
) -> Decision:
    """Compares a challenger with the baselines, the champion, a constant and its own base.

    It is released if all of these hold:

    - the paired AUC difference to the last-status lookup has a lower bound above 0 (``gate.beat_last_status``);
    - the same for every baseline of ``gate.beat``;
    - the lower bound of the difference to the baseline with the largest AUC is not below
      ``-gate.max_auc_loss_to_baseline``;
    - MCC at the threshold, which was chosen on ``select`` and not on these samples, is above ``gate.min_mcc``;
    - non-inferiority: the lower bound of the paired AUC difference to the champion is not below
      ``-gate.max_auc_loss``. It is refused if the samples are too few to exclude a
      larger loss;
    - Brier score and log-loss are below those of a constant, the bad rate of ``select`` (``gate.beat_constant``);
    - the calibration slope is within ``gate.min_calibration_slope`` and ``gate.max_calibration_slope``;
    - the stability index of its scores against ``select`` is at most ``gate.max_psi``;
    - its misses are at most ``gate.max_miss``;
    - its answers differ from those of its base: a trained adapter that changes nothing was trained in vain or not used;
    - nothing separates the classes almost perfectly (``gate.alarm``): no attribute of the dataset, and no model with an
      AUC above ``gate_checks.IMPLAUSIBLE_AUC``. Behaviour does not determine the outcome; an input that leaks it does.

    A champion that was trained on erased users has to be replaced by a date. Until then its replacement may lose up to
    ``gate.max_auc_loss_of_replacement`` against it; afterwards the comparison is reported and does not decide, since
    the champion has to be replaced. The other conditions are the same.

    Args:
        labels: labels of the held-out split, 1 = bad; shape [samples].
        clusters: person of each sample; shape [samples].
        scores: p_bad of ``challenger``, of ``champion`` where there is one, and of the baselines by name.
        threshold: probability at or above which the challenger classifies a sample as bad.
        evidence: what else is known of the challenger.
        gate: the conditions.
        evaluation: number of resamples and confidence.
        seed: seed of the resamples.
        champion_ends: when the champion has to be replaced, None if it may stay.
        alarms: sentences about attributes of the dataset that alone separate the classes.

    Raises:
        ConfigError: the challenger, the lookup or a baseline of ``gate.beat`` has no scores.
        DataError: scores do not cover the samples, or a class is missing.
    """
    absent = {CHALLENGER, LAST_STATUS, *gate.beat} - set(scores)
    if absent:
        raise ConfigError(
            f"expected scores of challenger, last_status and gate.beat, found none of {', '.join(sorted(absent))}",
            action="score all of them on the held-out split before the gate",
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
    psi = score_psi(evidence.select_scores, scores[CHALLENGER])
    constant = np.full(len(labels), evidence.bad_rate)
    losses = {"brier": brier(labels, constant), "log_loss": log_loss(labels, constant)}
    checks = (
        gate_checks.plausible(result.auc, gate, alarms),
        *_compared(result, gate, evaluation.confidence),
        _against_champion(result, gate, evaluation.confidence, champion_ends),
        *_probabilities(result, gate, losses),
        *_samples(gate, evidence, psi),
    )
    failed = tuple(check.sentence for check in checks if not check.passed)
    return Decision(
        decision="refused" if failed else "released",
        reasons=failed or tuple(check.sentence for check in checks),
        checks=checks,
        figures={
            **_figures(result),
            **{f"{name}_of_constant": loss for name, loss in losses.items()},
            "threshold": threshold,
            "psi": psi,
            "miss": evidence.missed,
            "change_from_base": evidence.change_from_base,
        },
    )


def _compared(result: BootstrapResult, gate: Gate, confidence: float) -> list[Check]:
    """The comparisons with the baselines."""
    others = {name: found for name, found in result.auc_differences.items() if name != CHAMPION}
    beaten = dict.fromkeys([*([LAST_STATUS] if gate.beat_last_status else []), *gate.beat])
    checks = [gate_checks.beats(name, others[name], confidence) for name in beaten]
    if gate.max_auc_loss_to_baseline is not None:
        tolerated = gate.max_auc_loss_to_baseline
        checks.append(gate_checks.near_best_baseline(others, result.auc, tolerated, confidence))
    return [*checks, gate_checks.exceeds_mcc(result.mcc[CHALLENGER], gate.min_mcc)]


def _against_champion(result: BootstrapResult, gate: Gate, confidence: float, ends: Ending | None) -> Check:
    difference = result.auc_differences.get(CHAMPION)
    if difference is None:
        return gate_checks.no_champion()
    if ends is not None:
        return gate_checks.replaces(difference, ends, gate.max_auc_loss_of_replacement, confidence)
    return gate_checks.not_inferior(difference, gate.max_auc_loss, confidence)


def _probabilities(result: BootstrapResult, gate: Gate, constant: Mapping[str, float]) -> list[Check]:
    """Whether the calibrated probabilities are worth more than a constant, and as extreme as they should be."""
    checks = []
    if gate.beat_constant:
        checks += [
            gate_checks.beats_constant(name, result.figures[name][CHALLENGER].value, loss)
            for name, loss in constant.items()
        ]
    if gate.min_calibration_slope is not None or gate.max_calibration_slope is not None:
        found = result.figures["calibration_slope"].get(CHALLENGER)
        checks.append(gate_checks.calibrated_slope(found, gate.min_calibration_slope, gate.max_calibration_slope))
    return checks


def _samples(gate: Gate, evidence: Evidence, psi: float) -> list[Check]:
    """Whether the scores are stable, every prompt is answered, and the adapter has an effect."""
    return [
        *([gate_checks.stable_scores(psi, gate.max_psi)] if gate.max_psi is not None else []),
        gate_checks.answers_every_prompt(evidence.missed, gate.max_miss),
        gate_checks.uses_training(evidence.change_from_base),
    ]


def _figures(result: BootstrapResult) -> dict[str, float]:
    measured = ("auc", "ks", "mcc", "brier", "log_loss", "calibration_slope")
    named = {
        **{name: result.figures[name][CHALLENGER] for name in measured if CHALLENGER in result.figures[name]},
        **{f"auc_minus_{other}": difference for other, difference in result.auc_differences.items()},
    }
    ends = {f"{name}_{end}": getattr(found, end) for name, found in named.items() for end in ("low", "high")}
    values = {name: found.value for name, found in named.items()}
    return {**values, **ends, "persons": float(result.clusters)}
