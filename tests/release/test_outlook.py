"""Figures of a scored book before its labels are mature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from zigong.evaluation.metrics import score_curve
from zigong.release.outlook import outlook


def test_the_figures_expected_of_a_calibrated_book_are_those_that_its_labels_show_later() -> None:
    rng = np.random.default_rng(2)
    p_bad = expit(rng.normal(-3, 1.2, 20_000))
    found = outlook(p_bad, p_bad)
    labels = (rng.random(20_000) < p_bad).astype(int)
    truth = score_curve(labels, p_bad)
    assert found["score.mean_p_bad"] == pytest.approx(labels.mean(), abs=0.005)
    assert found["score.expected_auc"] == pytest.approx(truth.auc, abs=0.02)
    assert found["score.expected_ks"] == pytest.approx(truth.ks, abs=0.03)
    assert found["score.psi"] == 0.0


def test_a_riskier_book_has_a_large_psi_and_no_reference_means_none() -> None:
    p_bad = expit(np.random.default_rng(3).normal(-3, 1, 5000))
    riskier = expit(np.random.default_rng(4).normal(-1, 1, 5000))
    assert outlook(riskier, p_bad)["score.psi"] > 1
    assert "score.psi" not in outlook(riskier, np.zeros(0))
    assert outlook(np.zeros(0), p_bad) == {}
