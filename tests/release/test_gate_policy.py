"""The conditions of the gate on baselines, probabilities, shift, misses and use of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from tests.support.gate_scores import (
    GOOD,
    LABELS,
    LOOKUP,
    PERSONS,
    POOR,
    RISK,
    SIZE,
    check_of,
    decided,
    evidence_of,
    seen_through,
)
from zigong.errors import ConfigError
from zigong.recipe import Evaluation, Gate
from zigong.release.gate import decide

BETTER: np.ndarray = expit(RISK + 1.8 * LABELS - 2)


def test_a_baseline_that_is_better_refuses_unless_its_lead_is_tolerated() -> None:
    scores = {"challenger": GOOD, "lightgbm": BETTER, "logistic": POOR}
    found = decided(scores, max_auc_loss_to_baseline=0.02)
    assert found.decision == "refused"
    (reason,) = found.reasons
    assert reason.startswith("Against the best baseline, lightgbm: the paired difference is -0.")
    assert found.figures["auc_minus_lightgbm"] < -0.05
    assert decided(scores, max_auc_loss_to_baseline=0.5).decision == "released"
    assert decided(scores).decision == "released"
    assert decided(scores | {"lightgbm": POOR}, max_auc_loss_to_baseline=0.0).decision == "released"


def test_a_baseline_that_has_to_be_beaten_refuses_where_the_lead_may_be_chance() -> None:
    close = {"challenger": GOOD, "lightgbm": seen_through(0.2, seed=9)}
    found = decided(close, beat=("lightgbm",))
    assert found.decision == "refused"
    assert "AUC is not clearly above that of lightgbm" in found.reasons[0]
    assert decided(close | {"lightgbm": POOR}, beat=("lightgbm",)).decision == "released"
    with pytest.raises(ConfigError, match=r"gate\.beat.*logistic"):
        decided(close, beat=("logistic",))


def test_every_check_of_the_strict_gate_states_observation_bound_and_verdict() -> None:
    found = decide(
        labels=LABELS,
        clusters=PERSONS,
        scores={"challenger": GOOD, "last_status": LOOKUP, "lightgbm": POOR},
        threshold=0.2,
        evidence=evidence_of(GOOD),
        gate=Gate(),
        evaluation=Evaluation(bootstrap=100),
        seed=7,
    )
    assert found.decision == "released", found.reasons
    stated = {check.name: (check.observed, check.bound) for check in found.checks if check.name != "not_inferior"}
    assert stated.keys() == {
        "plausible",
        "beats_last_status",
        "near_best_baseline",
        "min_mcc",
        "brier_below_constant",
        "log_loss_below_constant",
        "calibration_slope",
        "psi",
        "miss",
        "differs_from_base",
    }
    assert all(observed is not None and bound for observed, bound in stated.values())
    assert stated["brier_below_constant"][0] == pytest.approx(np.mean((GOOD - LABELS) ** 2))
    assert found.figures["brier_of_constant"] == pytest.approx(LABELS.mean() * (1 - LABELS.mean()))
    assert stated["psi"] == (0.0, "<= 0.25")


def test_probabilities_worse_than_the_bad_rate_are_refused_though_they_rank_well() -> None:
    inflated: np.ndarray = expit(RISK + 1.5)  # the ranking of the truth, far too high
    found = decided({"challenger": inflated}, threshold=0.9, beat_constant=True, min_mcc=-1.0)
    failed = [check.name for check in found.checks if not check.passed]
    assert failed == ["brier_below_constant", "log_loss_below_constant"]


@pytest.mark.parametrize(("factor", "passes"), [(3.0, False), (1.0, True), (0.3, False)])
def test_a_calibration_slope_out_of_bounds_refuses(factor: float, passes: bool) -> None:
    spread: np.ndarray = expit(factor * RISK - 2)
    found = decided({"challenger": spread}, min_mcc=-1.0, min_calibration_slope=0.7, max_calibration_slope=1.4)
    check = check_of(found, "calibration_slope")
    assert check.passed == passes
    assert check.observed == pytest.approx(1 / factor, rel=0.25)
    assert check.bound == ">= 0.7 and <= 1.4"


def test_constant_probabilities_have_no_slope_and_are_refused() -> None:
    flat = np.full(SIZE, 0.15)
    found = decided({"challenger": flat}, beat_last_status=False, min_mcc=-1.0, min_calibration_slope=0.7)
    assert [check.name for check in found.checks if not check.passed] == ["calibration_slope"]
    assert "are constant" in found.reasons[0]


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"missed": 0.01}, "miss", "answers 1.00% of the prompts with none of the choices"),
        ({"change_from_base": 1e-6}, "differs_from_base", "its answers equal the base's"),
        ({"select": expit(RISK + 3)}, "psi", "above 0.25"),
    ],
)
def test_misses_an_adapter_without_effect_and_shifted_scores_are_refused(
    changes: dict[str, Any], name: str, words: str
) -> None:
    found = decide(
        labels=LABELS,
        clusters=PERSONS,
        scores={"challenger": GOOD, "last_status": LOOKUP},
        threshold=0.2,
        evidence=evidence_of(**({"select": GOOD} | changes)),
        gate=Gate(),
        evaluation=Evaluation(bootstrap=50),
        seed=7,
    )
    assert [check.name for check in found.checks if not check.passed] == [name]
    assert words in found.reasons[0]
