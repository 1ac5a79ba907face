"""Each metric against a count by hand, scikit-learn on the copied samples, or a refit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, matthews_corrcoef

from zigong.errors import DataError
from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.metrics import expected_curve, score_curve
from zigong.evaluation.resampled import Scored, calibration_line

# Called bad at .5: one bad and one good; spared: one bad and three good.
LABELS = np.array([1, 0, 1, 0, 0, 0])
P_BAD = np.array([0.9, 0.6, 0.4, 0.3, 0.2, 0.1])
BY_HAND = {
    "accuracy": 4 / 6,
    "f1_macro": (2 / 4 + 6 / 8) / 2,
    "f1_weighted": (2 * (2 / 4) + 4 * (6 / 8)) / 6,
    "mcc": (1 * 3 - 1 * 1) / np.sqrt(2 * 4 * 2 * 4),
    "auc": 7 / 8,
    "pr_auc": (1 / 1 + 2 / 3) / 2,
    "ks": 1 - 1 / 4,
    "miss": 2 / 6,
    "bad_rate": 2 / 6,
    "brier": (0.01 + 0.36 + 0.36 + 0.09 + 0.04 + 0.01) / 6,
    "log_loss": -np.log([0.9, 0.4, 0.4, 0.7, 0.8, 0.9]).sum() / 6,
}
MISSED = np.array([True, False, True, False, False, False])


def _drawn(size: int, seed: int, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose log-odds would have to be multiplied by ``slope``."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.5, 1.2, size)
    return (rng.random(size) < expit(slope * odds)).astype(np.int64), expit(odds)


@pytest.mark.parametrize("metric", sorted(BY_HAND))
def test_a_metric_equals_its_count_by_hand(metric: str) -> None:
    scored = Scored.of(LABELS, P_BAD, threshold=0.5, missed=MISSED)
    assert scored.measured(np.ones(6))[metric] == pytest.approx(BY_HAND[metric], abs=1e-12)
    assert scored.values.get(metric, BY_HAND[metric]) == pytest.approx(BY_HAND[metric], abs=1e-12)


@pytest.mark.parametrize("threshold", [-1.0, 0.2, 0.35, 2.0])
def test_weights_equal_copies_of_the_samples_under_scikit_learn(threshold: float) -> None:
    labels, p = _drawn(300, 3)
    p = np.round(p, 1)
    weights = np.random.default_rng(4).integers(0, 4, 300)
    found = Scored.of(labels, p, threshold=threshold).measured(weights.astype(float))
    y, q = np.repeat(labels, weights), np.repeat(p, weights)
    called = q >= threshold
    assert found["mcc"] == pytest.approx(matthews_corrcoef(y, called), abs=1e-12)
    assert found["accuracy"] == pytest.approx(accuracy_score(y, called), abs=1e-12)
    for average in ("macro", "weighted"):
        expected = f1_score(y, called, average=average, zero_division=0)
        assert found[f"f1_{average}"] == pytest.approx(expected, abs=1e-12)
    assert found["pr_auc"] == pytest.approx(average_precision_score(y, q), abs=1e-12)
    assert found["brier"] == pytest.approx(np.mean((q - y) ** 2), abs=1e-12)


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_the_calibration_slope_is_the_factor_that_the_log_odds_lack(slope: float) -> None:
    labels, p = _drawn(40_000, 5, slope)
    line = calibration_line(labels, p)
    assert line is not None
    assert line == pytest.approx((0.0, slope), abs=0.08)
    residual = labels - expit(line[0] + line[1] * logit(p))
    assert [residual.mean(), (residual * logit(p)).mean()] == pytest.approx([0, 0], abs=1e-6)


def test_one_newton_step_is_close_to_a_refit_on_the_resample() -> None:
    labels, p = _drawn(3000, 6, 0.7)
    weights = np.random.default_rng(7).multinomial(3000, np.full(3000, 1 / 3000))
    found = Scored.of(labels, p).measured(weights.astype(float))
    refitted = calibration_line(np.repeat(labels, weights), np.repeat(p, weights))
    stepped = (found["calibration_intercept"], found["calibration_slope"])
    assert stepped == pytest.approx(refitted, abs=0.01)


def test_a_constant_has_no_calibration_slope_and_scores_that_are_no_probabilities_have_no_losses() -> None:
    labels, p = _drawn(100, 8)
    assert "calibration_slope" not in Scored.of(labels, np.full(100, 0.2)).measured(np.ones(100))
    found = Scored.of(labels, logit(p)).measured(np.ones(100))
    assert not {"brier", "log_loss", "calibration_slope", "mcc", "miss"} & set(found)


def test_the_interval_of_the_bad_rate_has_the_width_of_the_binomial() -> None:
    labels, p = _drawn(2000, 9)
    found = clustered_bootstrap(labels, {"a": p}, np.arange(2000), replicates=1000, confidence=0.95, seed=1)
    rate = found.figures["bad_rate"]["a"]
    error = np.sqrt(rate.value * (1 - rate.value) / 2000)
    assert rate.high - rate.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_expected_auc_and_ks_of_calibrated_scores_equal_the_truth_within_sampling_error() -> None:
    rng = np.random.default_rng(10)
    p = rng.beta(1, 6, 2000)
    expected = expected_curve(p)
    draws = [score_curve((rng.random(2000) < p).astype(int), p) for _ in range(200)]
    for name, truth in (("auc", [d.auc for d in draws]), ("ks", [d.ks for d in draws])):
        assert abs(getattr(expected, name) - np.mean(truth)) < np.std(
            truth
        )  # the largest distance is a little larger in a sample


def test_the_expected_confusion_counts_each_sample_as_p_bad_and_the_rest_good() -> None:
    # two cuts: above .5 there are 1.4 bad and .6 good, below .2 bad and 1.8 good
    curve = expected_curve(np.array([0.7, 0.7, 0.1, 0.1]))
    assert curve.bad.tolist() == pytest.approx([0, 1.4 / 1.6, 1])
    assert curve.good.tolist() == pytest.approx([0, 0.6 / 2.4, 1])
    assert expected_curve(np.array([0.7, 0.1]), np.array([2.0, 2.0])).auc == pytest.approx(curve.auc)


def test_an_estimate_without_probabilities_is_refused() -> None:
    for broken in (np.array([0.2, 1.2]), np.array([0.0, 0.0]), np.array([])):
        with pytest.raises(DataError, match="probabilities"):
            expected_curve(broken)
