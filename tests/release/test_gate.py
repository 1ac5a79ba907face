from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from scipy.special import expit

from tests.support.gate_scores import (
    COMPARED_ONLY,
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
from zigong.release.gate import Decision, decide
from zigong.release.gate_checks import Ending


def test_a_better_challenger_is_released_with_a_sentence_for_everycheck_of() -> None:
    found = decided({"challenger": GOOD, "champion": POOR})
    assert found.decision == "released"
    assert len(found.reasons) == len(found.checks) == 6
    assert all(check.passed for check in found.checks)


@pytest.mark.parametrize("knowing", ["challenger", "lightgbm"])
def test_a_model_with_an_implausible_auc_is_refused_by_name_unless_the_recipe_only_warns(knowing: str) -> None:
    perfect = expit(8.0 * LABELS - 4 + 0.1 * RISK)
    scores = {"challenger": GOOD, "lightgbm": POOR, knowing: perfect}
    found = decided(scores, min_mcc=-1.0)
    assert found.decision == "refused"
    (reason,) = found.reasons
    assert f"AUC of {knowing} is 1.000" in reason
    assert "gate.alarm: warn" in reason
    warned = decided(scores, min_mcc=-1.0, alarm="warn")
    assert warned.decision == "released"
    assert reason in warned.reasons


def test_an_attribute_that_separates_the_classes_refuses_the_release() -> None:
    alarms = ("no_attribute_has_a_large_auc: expected at most 0.9, observed 0.97 (attribute fee)",)
    found = decide(
        labels=LABELS,
        clusters=PERSONS,
        scores={"challenger": GOOD, "last_status": LOOKUP},
        threshold=0.2,
        evidence=evidence_of(GOOD),
        gate=Gate(),
        evaluation=Evaluation(bootstrap=20),
        seed=7,
        alarms=alarms,
    )
    assert found.decision == "refused"
    assert alarms[0] in found.reasons[0]


def test_a_first_model_needs_no_champion() -> None:
    found = decided({"challenger": GOOD})
    assert found.decision == "released"
    assert any("no champion" in reason for reason in found.reasons)


def test_a_challenger_equal_to_the_lookup_is_refused_with_that_reason() -> None:
    found = decided({"challenger": LOOKUP}, min_mcc=-1.0)
    assert found.decision == "refused"
    assert found.reasons == (
        "AUC is not clearly above that of the last-status lookup: the paired difference is +0.0000 "
        "(95% interval +0.0000 to +0.0000), and the lower bound must exceed 0.",
    )
    assert decided({"challenger": LOOKUP}, min_mcc=-1.0, beat_last_status=False).decision == "released"


def test_a_threshold_that_classifies_no_client_as_bad_is_refused_for_its_mcc() -> None:
    found = decided({"challenger": GOOD}, threshold=1.0)
    assert found.reasons == ("MCC at the threshold from select is 0.000, which is not above the required 0.000.",)


def test_a_challenger_below_the_champion_is_refused_with_the_figures() -> None:
    found = decided({"challenger": POOR, "champion": GOOD}, min_mcc=-1.0, max_auc_loss=0.01, beat_last_status=False)
    (reason,) = found.reasons
    assert reason.startswith("Against the champion the paired difference is -0.")
    assert f"{found.figures['auc_minus_champion']:+.4f}" in reason
    assert reason.endswith("does not exclude a loss of more than 0.0100.")


def test_a_rerun_of_the_champion_is_never_inferior_to_itself() -> None:
    assert decided({"challenger": GOOD, "champion": GOOD.copy()}, max_auc_loss=0.0).decision == "released"


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
            evidence=evidence_of(noisy[rows]),
            gate=gate,
            evaluation=Evaluation(bootstrap=200),
            seed=7,
        )

    assert compared_with_champion(np.arange(SIZE)).decision == "released"
    few = compared_with_champion(chosen)
    assert few.decision == "refused"
    assert few.figures["auc_minus_champion"] > -0.02  # the estimate is tolerated, its interval is not


def test_every_failed_check_has_a_reason() -> None:
    found = decided({"challenger": 1 - LOOKUP, "champion": GOOD})
    assert [check.passed for check in found.checks] == [True, False, False, False, True, True]
    assert len(found.reasons) == 3


def test_a_gate_without_scores_of_the_lookup_is_rejected() -> None:
    with pytest.raises(ConfigError, match="last_status"):
        decide(
            labels=LABELS,
            clusters=PERSONS,
            scores={"challenger": GOOD},
            threshold=0.5,
            evidence=evidence_of(GOOD),
            gate=Gate(),
            evaluation=Evaluation(),
            seed=1,
        )


WORSE = seen_through(0.6)  # loses about 0.03 of AUC against GOOD


def test_the_replacement_of_a_champion_that_may_not_stay_may_lose_more_until_the_date() -> None:
    scores = {"challenger": WORSE, "champion": GOOD}
    ending = Ending(retrain_by=date(2024, 3, 1), today=date(2024, 3, 1))
    assert decided(scores, min_mcc=-1.0).decision == "refused"
    within = decided(scores, min_mcc=-1.0, ends=ending, max_auc_loss_of_replacement=0.1)
    assert within.decision == "released"
    sentence = check_of(within, "not_inferior").sentence
    assert "trained on erased users and has to be replaced no later than 2024-03-01." in sentence
    assert decided(scores, min_mcc=-1.0, ends=ending, max_auc_loss_of_replacement=0.001).decision == "refused"


def test_after_the_date_the_champion_does_not_decide_and_the_other_conditions_do() -> None:
    overdue = Ending(retrain_by=date(2024, 3, 1), today=date(2024, 3, 2))
    found = decided({"challenger": POOR, "champion": GOOD}, min_mcc=-1.0, ends=overdue, beat_last_status=False)
    assert found.decision == "released"
    sentence = check_of(found, "not_inferior").sentence
    assert "which has passed" in sentence
    assert "does not affect the decision" in sentence
    assert decided({"challenger": LOOKUP, "champion": GOOD}, ends=overdue).decision == "refused"
