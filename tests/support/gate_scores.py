"""Drawn scores of challenger, champion and baselines for the tests of the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from zigong.recipe import Evaluation, Gate
from zigong.release.gate import Decision, Evidence, decide
from zigong.release.gate_checks import Check, Ending

RNG = np.random.default_rng(1)
SIZE = 1500
PERSONS = RNG.integers(1000, size=SIZE)
RISK = RNG.normal(size=SIZE)
LABELS = (RNG.random(SIZE) < expit(RISK - 2)).astype(int)


def seen_through(noise: float, seed: int = 2) -> np.ndarray:
    """Probabilities that see the risk through noise."""
    p_bad: np.ndarray = expit(RISK + noise * np.random.default_rng(seed).normal(size=SIZE) - 2)
    return p_bad


GOOD, POOR, LOOKUP = seen_through(0.2), seen_through(2.0), seen_through(4.0, seed=3)


# The conditions that a test is not about.
COMPARED_ONLY: dict[str, Any] = {
    "max_auc_loss_to_baseline": None,
    "beat_constant": False,
    "min_calibration_slope": None,
    "max_calibration_slope": None,
    "max_psi": None,
}


def evidence_of(select: np.ndarray, **changes: Any) -> Evidence:
    """What is known of a challenger with these scores on select."""
    facts: dict[str, Any] = {"bad_rate": float(LABELS.mean()), "missed": 0.0, "change_from_base": 0.2}
    return Evidence(select_scores=select, **(facts | changes))


def decided(
    scores: dict[str, np.ndarray], threshold: float = 0.2, ends: Ending | None = None, **conditions: Any
) -> Decision:
    """The decision on these scores, with only the comparisons and further conditions."""
    return decide(
        labels=LABELS,
        clusters=PERSONS,
        scores={"last_status": LOOKUP, **scores},
        threshold=threshold,
        evidence=evidence_of(scores["challenger"]),
        gate=Gate(**(COMPARED_ONLY | conditions)),
        evaluation=Evaluation(bootstrap=200),
        seed=7,
        champion_ends=ends,
    )


def check_of(found: Decision, name: str) -> Check:
    """The check of this name."""
    (check,) = [check for check in found.checks if check.name == name]
    return check
