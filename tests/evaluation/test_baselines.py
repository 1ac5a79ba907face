from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from tests.support.sequence_rows import OUTCOMES, SHANGHAI, Row, make_event, random_rows, sequence_table
from zigong.errors import DataError
from zigong.evaluation import metrics
from zigong.evaluation.baselines import fit_baselines
from zigong.evaluation.boosting import Labelled, Predictor, boosted_trees
from zigong.evaluation.feature_space import aligned, feature_space
from zigong.evaluation.scorecard import scorecard
from zigong.features.baseline import baseline_features

Fitted = tuple[pd.DataFrame, np.ndarray, dict[str, Predictor]]


def _learned(seed: int = 3) -> tuple[pd.DataFrame, np.ndarray]:
    features = baseline_features(sequence_table(random_rows(seed, users=900)), OUTCOMES, SHANGHAI)
    risk = 0.05 + 0.75 * (features["count_late_6m"] >= 2)
    return features, (np.random.default_rng(seed).random(len(features)) < risk).astype(int)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    features, labels = _learned()
    return features, labels, fit_baselines(_labelled(features, labels), _stop(), seed=5)


def _labelled(features: pd.DataFrame, labels: np.ndarray) -> Labelled:
    return Labelled(features=features, bad=labels == 1)


def _stop() -> Labelled:
    return _labelled(*_learned(seed=6))


def test_every_baseline_returns_probabilities_for_unseen_samples(fitted: Fitted) -> None:
    _, _, predictors = fitted
    unseen, _ = _learned(seed=4)
    assert list(predictors) == ["majority", "last_status", "logistic", "scorecard", "lightgbm", "lightgbm_no_profile"]
    for name, predict in predictors.items():
        p = predict(unseen)
        assert p.shape == (len(unseen),), name
        assert ((p >= 0) & (p <= 1)).all(), name


def test_the_cause_of_default_is_learned_by_every_baseline_except_majority(fitted: Fitted) -> None:
    _, train_labels, predictors = fitted
    unseen, labels = _learned(seed=4)
    found = {name: metrics.auc(labels, predict(unseen)) for name, predict in predictors.items()}
    assert found["majority"] == 0.5
    assert np.unique(predictors["majority"](unseen)) == pytest.approx([train_labels.mean()])
    assert min(found[name] for name in ("logistic", "scorecard", "lightgbm", "lightgbm_no_profile")) > 0.8
    assert 0.5 < found["last_status"] < found["lightgbm_no_profile"]


def test_the_same_seed_gives_the_same_trees(fitted: Fitted) -> None:
    features, labels, predictors = fitted
    again = fit_baselines(_labelled(features, labels), _stop(), seed=5)
    for name in predictors:
        np.testing.assert_array_equal(again[name](features), predictors[name](features))


def test_only_the_model_with_profile_depends_on_the_profile(fitted: Fitted) -> None:
    features, _, predictors = fitted
    changed = features.assign(profile_income="1", profile_city="B")
    for name in set(predictors) - {"lightgbm", "scorecard"}:
        np.testing.assert_array_equal(predictors[name](changed), predictors[name](features))
    for name in ("lightgbm", "scorecard"):
        assert (predictors[name](changed) != predictors[name](features)).any()


def test_a_scorecard_does_not_extrapolate_what_grows_with_the_calendar(fitted: Fitted) -> None:
    _, _, predictors = fitted
    unseen, labels = _learned(seed=4)
    grown = {name: unseen[name] * 20 + 50 for name in ("known_events", "months_of_history")}
    later = unseen.assign(**grown)
    lost = {
        name: metrics.auc(labels, predictors[name](unseen)) - metrics.auc(labels, predictors[name](later))
        for name in ("logistic", "scorecard")
    }
    assert abs(lost["scorecard"]) < 0.02 < lost["logistic"]


def test_the_penalty_of_a_scorecard_is_chosen_by_the_log_loss_of_other_samples(fitted: Fitted) -> None:
    features, _, _ = fitted
    rng = np.random.default_rng(1)
    noise, stop = (_labelled(features, (rng.random(len(features)) < 0.3).astype(int)) for _ in range(2))
    columns = list(features.columns)
    chosen, fixed = scorecard(noise, stop, columns)(features), scorecard(noise, None, columns)(features)
    assert np.ptp(chosen) < np.ptp(fixed)
    one_class = _labelled(features, np.zeros(len(features)))
    np.testing.assert_array_equal(scorecard(noise, one_class, columns)(features), fixed)


def test_last_status_is_the_smoothed_bad_rate_of_status_and_arrears_band() -> None:
    rows: list[Row] = [
        (datetime(2024, 1, 1, tzinfo=UTC), {}, [make_event("late", datetime(2023, 12, 1, tzinfo=UTC), dpd)])
        for dpd in (5, 29, 30, 31)
    ]
    features = baseline_features(sequence_table(rows), OUTCOMES, "UTC")
    predict = fit_baselines(_labelled(features, np.array([1, 0, 1, 1])), None, seed=1)["last_status"]
    assert predict(features) == pytest.approx([(1 + 0.75) / 3] * 2 + [(2 + 0.75) / 3] * 2)
    never_seen = baseline_features(sequence_table([(rows[0][0], {}, [])]), OUTCOMES, "UTC")
    assert predict(never_seen) == pytest.approx([0.75])


def test_features_of_other_splits_are_aligned_with_training(fitted: Fitted) -> None:
    features, _, _ = fitted
    space = feature_space(features, list(features.columns))
    other = features.drop(columns=["count_loan_3m", "profile_income"]).assign(
        status_lag_1="never_seen", profile_city="C", count_new_3m=1.0
    )
    found = aligned(space, other)
    assert list(found.columns) == [*space.numbers, *space.words]
    assert "profile_income" in space.numbers
    assert (found["count_loan_3m"] == 0).all()
    assert found[["profile_income", "status_lag_1", "profile_city"]].isna().all(axis=None)


def test_training_a_baseline_on_one_class_is_rejected(fitted: Fitted) -> None:
    features, _, _ = fitted
    with pytest.raises(DataError, match="0 bad"):
        fit_baselines(_labelled(features, np.zeros(len(features), dtype=int)), None, seed=1)


def test_the_number_of_trees_is_where_the_log_loss_of_other_samples_is_least(fitted: Fitted) -> None:
    """Labels of pure noise: more trees only overfit, so stopping gives nearly the bad rate."""
    features, _, _ = fitted
    rng = np.random.default_rng(1)
    noise, stop = (_labelled(features, (rng.random(len(features)) < 0.3).astype(int)) for _ in range(2))
    stopped = boosted_trees(noise, stop, feature_space(features, list(features.columns)), seed=1)(features)
    endless = boosted_trees(noise, None, feature_space(features, list(features.columns)), seed=1)(features)
    assert np.ptp(stopped) < 0.2 < np.ptp(endless)
    one_class = _labelled(features, np.zeros(len(features)))
    np.testing.assert_array_equal(
        boosted_trees(noise, one_class, feature_space(features, list(features.columns)), seed=1)(features), endless
    )


def test_only_the_baseline_without_other_loans_is_independent_of_them(fitted: Fitted) -> None:
    features, labels, _ = fitted
    rng = np.random.default_rng(2)
    risky = features.assign(loans=3.0, other_last_dpd_worst=labels * 40 * (rng.random(len(labels)) < 0.9))
    predictors = fit_baselines(_labelled(risky, labels), None, seed=5)
    assert list(predictors)[-1] == "lightgbm_no_other_loans"
    changed = risky.assign(other_last_dpd_worst=0.0, gap_days=9.0)
    for name in ("lightgbm", "lightgbm_no_profile", "logistic"):
        assert (predictors[name](changed) != predictors[name](risky)).any(), name
    own = predictors["lightgbm_no_other_loans"]
    np.testing.assert_array_equal(own(changed), own(risky))
