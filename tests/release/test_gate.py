from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from zigong.errors import ConfigError
from zigong.recipe import Evaluation, Gate
from zigong.release.gate import Decision, Evidence, decide
from zigong.release.gate_checks import Check, Ending

RNG = np.random.default_rng(1)
SIZE = 1500
PERSONS = RNG.integers(1000, size=SIZE)
RISK = RNG.normal(size=SIZE)
LABELS = (RNG.random(SIZE) < expit(RISK - 2)).astype(int)


def _seen_through(noise: float, seed: int = 2) -> np.ndarray:
    p_bad: np.ndarray = expit(RISK + noise * np.random.default_rng(seed).normal(size=SIZE) - 2)
    return p_bad


GOOD, POOR, LOOKUP = _seen_through(0.2), _seen_through(2.0), _seen_through(4.0, seed=3)


# The conditions that a test is not about.
COMPARED_ONLY: dict[str, Any] = {
    "max_auc_loss_to_baseline": None,
    "beat_constant": False,
    "min_calibration_slope": None,
    "max_calibration_slope": None,
    "max_psi": None,
}


def _evidence(select: np.ndarray, **changes: Any) -> Evidence:
    facts: dict[str, Any] = {"bad_rate": float(LABELS.mean()), "missed": 0.0, "change_from_base": 0.2}
    return Evidence(select_scores=select, **(facts | changes))


def _decide(
    scores: dict[str, np.ndarray], threshold: float = 0.2, ends: Ending | None = None, **conditions: Any
) -> Decision:
    return decide(
        labels=LABELS,
        clusters=PERSONS,
        scores={"last_status": LOOKUP, **scores},
        threshold=threshold,
        evidence=_evidence(scores["challenger"]),
        gate=Gate(**(COMPARED_ONLY | conditions)),
        evaluation=Evaluation(bootstrap=200),
        seed=7,
        champion_ends=ends,
    )


def test_a_better_challenger_is_released_with_a_sentence_for_every_check() -> None:
    found = _decide({"challenger": GOOD, "champion": POOR})
    assert found.decision == "released"
    assert len(found.reasons) == len(found.checks) == 6
    assert all(check.passed for check in found.checks)


@pytest.mark.parametrize("knowing", ["challenger", "lightgbm"])
def test_a_model_with_an_implausible_auc_is_refused_by_name_unless_the_recipe_only_warns(knowing: str) -> None:
    perfect = expit(8.0 * LABELS - 4 + 0.1 * RISK)
    scores = {"challenger": GOOD, "lightgbm": POOR, knowing: perfect}
    found = _decide(scores, min_mcc=-1.0)
    assert found.decision == "refused"
    (reason,) = found.reasons
    assert f"AUC of {knowing} is 1.000" in reason
    assert "gate.alarm: warn" in reason
    warned = _decide(scores, min_mcc=-1.0, alarm="warn")
    assert warned.decision == "released"
    assert reason in warned.reasons


def test_an_attribute_that_separates_the_classes_refuses_the_release() -> None:
    alarms = ("no_attribute_has_a_large_auc: expected at most 0.9, observed 0.97 (attribute fee)",)
    found = decide(
        labels=LABELS,
        clusters=PERSONS,
        scores={"challenger": GOOD, "last_status": LOOKUP},
        threshold=0.2,
        evidence=_evidence(GOOD),
        gate=Gate(),
        evaluation=Evaluation(bootstrap=20),
        seed=7,
        alarms=alarms,
    )
    assert found.decision == "refused"
    assert alarms[0] in found.reasons[0]


def test_a_first_model_needs_no_champion() -> None:
    found = _decide({"challenger": GOOD})
    assert found.decision == "released"
    assert any("no champion" in reason for reason in found.reasons)


def test_a_challenger_equal_to_the_lookup_is_refused_with_that_reason() -> None:
    found = _decide({"challenger": LOOKUP}, min_mcc=-1.0)
    assert found.decision == "refused"
    assert found.reasons == (
        "AUC is not clearly above that of the last-status lookup: the paired difference is +0.0000 "
        "(95% interval +0.0000 to +0.0000), and the lower bound must exceed 0.",
    )
    assert _decide({"challenger": LOOKUP}, min_mcc=-1.0, beat_last_status=False).decision == "released"


def test_a_threshold_that_classifies_no_client_as_bad_is_refused_for_its_mcc() -> None:
    found = _decide({"challenger": GOOD}, threshold=1.0)
    assert found.reasons == ("MCC at the threshold from select is 0.000, which is not above the required 0.000.",)


def test_a_challenger_below_the_champion_is_refused_with_the_figures() -> None:
    found = _decide({"challenger": POOR, "champion": GOOD}, min_mcc=-1.0, max_auc_loss=0.01, beat_last_status=False)
    (reason,) = found.reasons
    assert reason.startswith("Against the champion the paired difference is -0.")
    assert f"{found.figures['auc_minus_champion']:+.4f}" in reason
    assert reason.endswith("does not exclude a loss of more than 0.0100.")


def test_a_rerun_of_the_champion_is_never_inferior_to_itself() -> None:
    assert _decide({"challenger": GOOD, "champion": GOOD.copy()}, max_auc_loss=0.0).decision == "released"


def test_a_challenger_with_too_few_samples_to_exclude_a_loss_is_refused() -> None:
    noisy = GOOD + 0.01 * np.random.default_rng(5).normal(size=SIZE)
    chosen = np.r_[np.flatnonzero(LABELS == 1)[:12], np.flatnonzero(LABELS == 0)[:60]]

    def compared_with_champion(rows: np.ndarray) -> Decision:
        scores = {"challenger": noisy[rows], "champion": GOOD[rows], "last_status": LOOKUP[rows]}
        gate = Gate(**(COMPARED_ONLY | {"beat_last_status": False, "min_mcc": -1.0, "max_auc_loss": 0.02}))
        return decide(
            labels=LABELS[rows],
            clusters=PERSONS[rows],
            scores=scores,
            threshold=0.2,
            evidence=_evidence(noisy[rows]),
            gate=gate,
            evaluation=Evaluation(bootstrap=200),
            seed=7,
        )

    assert compared_with_champion(np.arange(SIZE)).decision == "released"
    few = compared_with_champion(chosen)
    assert few.decision == "refused"
    assert few.figures["auc_minus_champion"] > -0.02  # the estimate is tolerated, its interval is not


BETTER: np.ndarray = expit(RISK + 1.8 * LABELS - 2)


def test_a_baseline_that_is_better_refuses_unless_its_lead_is_tolerated() -> None:
    scores = {"challenger": GOOD, "lightgbm": BETTER, "logistic": POOR}
    found = _decide(scores, max_auc_loss_to_baseline=0.02)
    assert found.decision == "refused"
    (reason,) = found.reasons
    assert reason.startswith("Against the best baseline, lightgbm: the paired difference is -0.")
    assert found.figures["auc_minus_lightgbm"] < -0.05
    assert _decide(scores, max_auc_loss_to_baseline=0.5).decision == "released"
    assert _decide(scores).decision == "released"
    assert _decide(scores | {"lightgbm": POOR}, max_auc_loss_to_baseline=0.0).decision == "released"


def test_a_baseline_that_has_to_be_beaten_refuses_where_the_lead_may_be_chance() -> None:
    close = {"challenger": GOOD, "lightgbm": _seen_through(0.2, seed=9)}
    found = _decide(close, beat=("lightgbm",))
    assert found.decision == "refused"
    assert "AUC is not clearly above that of lightgbm" in found.reasons[0]
    assert _decide(close | {"lightgbm": POOR}, beat=("lightgbm",)).decision == "released"
    with pytest.raises(ConfigError, match=r"gate\.beat.*logistic"):
        _decide(close, beat=("logistic",))


def _check(found: Decision, name: str) -> Check:
    (check,) = [check for check in found.checks if check.name == name]
    return check


def test_every_check_of_the_strict_gate_states_observation_bound_and_verdict() -> None:
    found = decide(
        labels=LABELS,
        clusters=PERSONS,
        scores={"challenger": GOOD, "last_status": LOOKUP, "lightgbm": POOR},
        threshold=0.2,
        evidence=_evidence(GOOD),
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
    found = _decide({"challenger": inflated}, threshold=0.9, beat_constant=True, min_mcc=-1.0)
    failed = [check.name for check in found.checks if not check.passed]
    assert failed == ["brier_below_constant", "log_loss_below_constant"]


@pytest.mark.parametrize(("factor", "passes"), [(3.0, False), (1.0, True), (0.3, False)])
def test_a_calibration_slope_out_of_bounds_refuses(factor: float, passes: bool) -> None:
    spread: np.ndarray = expit(factor * RISK - 2)
    found = _decide({"challenger": spread}, min_mcc=-1.0, min_calibration_slope=0.7, max_calibration_slope=1.4)
    check = _check(found, "calibration_slope")
    assert check.passed == passes
    assert check.observed == pytest.approx(1 / factor, rel=0.25)
    assert check.bound == ">= 0.7 and <= 1.4"


def test_constant_probabilities_have_no_slope_and_are_refused() -> None:
    flat = np.full(SIZE, 0.15)
    found = _decide({"challenger": flat}, beat_last_status=False, min_mcc=-1.0, min_calibration_slope=0.7)
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
        evidence=_evidence(**({"select": GOOD} | changes)),
        gate=Gate(),
        evaluation=Evaluation(bootstrap=50),
        seed=7,
    )
    assert [check.name for check in found.checks if not check.passed] == [name]
    assert words in found.reasons[0]


def test_every_failed_check_has_a_reason() -> None:
    found = _decide({"challenger": 1 - LOOKUP, "champion": GOOD})
    assert [check.passed for check in found.checks] == [True, False, False, False, True, True]
    assert len(found.reasons) == 3


def test_a_gate_without_scores_of_the_lookup_is_rejected() -> None:
    with pytest.raises(ConfigError, match="last_status"):
        decide(
            labels=LABELS,
            clusters=PERSONS,
            scores={"challenger": GOOD},
            threshold=0.5,
            evidence=_evidence(GOOD),
            gate=Gate(),
            evaluation=Evaluation(),
            seed=1,
        )


WORSE = _seen_through(0.6)  # loses about 0.03 of AUC against GOOD


def test_the_replacement_of_a_champion_that_may_not_stay_may_lose_more_until_the_date() -> None:
    scores = {"challenger": WORSE, "champion": GOOD}
    ending = Ending(retrain_by=date(2024, 3, 1), today=date(2024, 3, 1))
    assert _decide(scores, min_mcc=-1.0).decision == "refused"
    within = _decide(scores, min_mcc=-1.0, ends=ending, max_auc_loss_of_replacement=0.1)
    assert within.decision == "released"
    sentence = _check(within, "not_inferior").sentence
    assert "trained on erased users and has to be replaced no later than 2024-03-01." in sentence
    assert _decide(scores, min_mcc=-1.0, ends=ending, max_auc_loss_of_replacement=0.001).decision == "refused"


def test_after_the_date_the_champion_does_not_decide_and_the_other_conditions_do() -> None:
    overdue = Ending(retrain_by=date(2024, 3, 1), today=date(2024, 3, 2))
    found = _decide({"challenger": POOR, "champion": GOOD}, min_mcc=-1.0, ends=overdue, beat_last_status=False)
    assert found.decision == "released"
    sentence = _check(found, "not_inferior").sentence
    assert "which has passed" in sentence
    assert "does not affect the decision" in sentence
    assert _decide({"challenger": LOOKUP, "champion": GOOD}, ends=overdue).decision == "refused"
