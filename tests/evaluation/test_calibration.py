from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from zigong.errors import DataError
from zigong.evaluation.calibration import Calibration, calibrated, fit_calibration


def _distorted(size: int, intercept: float, slope: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal(-2, 1, size))
    return expit((logit(truth) - intercept) / slope), (rng.random(size) < truth).astype(int)


def test_calibration_recovers_a_known_distortion() -> None:
    p, labels = _distorted(40_000, intercept=-1.2, slope=0.5, seed=1)
    found = fit_calibration(p, labels)
    assert found.intercept == pytest.approx(-1.2, abs=0.1)
    assert found.slope == pytest.approx(0.5, abs=0.05)


def test_calibration_agrees_with_an_unpenalised_logistic_regression() -> None:
    p, labels = _distorted(20_000, intercept=0.4, slope=1.7, seed=2)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(p)[:, None], labels)
    found = fit_calibration(p, labels)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], abs=2e-3)
    assert found.intercept == pytest.approx(oracle.intercept_[0], abs=2e-3)


def test_calibrated_probabilities_average_to_the_bad_rate() -> None:
    p, labels = _distorted(5_000, intercept=-2.0, slope=0.3, seed=3)
    assert calibrated(fit_calibration(p, labels), p).mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_calibration_never_inverts_the_ranking() -> None:
    p, labels = _distorted(5_000, intercept=0.0, slope=1.0, seed=4)
    found = fit_calibration(1 - p, labels)
    assert found.slope == 0.0
    assert calibrated(found, p) == pytest.approx(np.full(len(p), labels.mean()), abs=1e-3)


def test_calibrated_probabilities_of_a_perfect_ranking_and_of_certain_answers_are_between_0_and_1() -> None:
    p, labels = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1])
    found = calibrated(fit_calibration(p, labels), p)
    assert ((found > 0.05) & (found < 0.95)).all()
    assert found[0] < found[2]


def test_a_constant_score_becomes_the_bad_rate() -> None:
    labels = np.array([1] * 30 + [0] * 970)
    assert calibrated(fit_calibration(np.full(1000, 0.9), labels), np.array([0.9, 0.2])) == pytest.approx(
        [0.03, 0.03], abs=2e-3
    )


def test_the_identity_changes_nothing() -> None:
    p = np.array([0.01, 0.5, 0.97])
    assert calibrated(Calibration(intercept=0.0, slope=1.0), p) == pytest.approx(p, abs=1e-12)


def test_calibration_on_one_class_is_rejected() -> None:
    with pytest.raises(DataError, match="both classes"):
        fit_calibration(np.array([0.2, 0.3]), np.array([0, 0]))
