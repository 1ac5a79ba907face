from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from zigong.errors import ConfigError, DataError
from zigong.evaluation import metrics
from zigong.evaluation.bootstrap import BootstrapResult, clustered_bootstrap
from zigong.evaluation.metrics import score_curve


def _sample(seed: int, size: int = 400, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < 0.3).astype(np.int64)
    scores = rng.random(size) + 0.3 * labels
    return labels, np.round(scores * levels) / levels if levels else scores


tied_samples = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(rows=tied_samples)
@settings(max_examples=150, deadline=None)
def test_auc_is_the_share_of_ordered_pairs_with_ties_as_one_half(rows: list[tuple[int, int]]) -> None:
    pairs = list(product([s for label, s in rows if label], [s for label, s in rows if not label]))
    naive = sum(1.0 if bad > good else 0.5 if bad == good else 0.0 for bad, good in pairs) / len(pairs)
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    assert metrics.auc(labels, scores.astype(float)) == pytest.approx(naive, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2, 7])
def test_auc_and_ks_agree_with_sklearn_and_scipy(levels: int | None) -> None:
    labels, scores = _sample(1, levels=levels)
    assert metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = ks_2samp(scores[labels == 1], scores[labels == 0]).statistic
    assert score_curve(labels, scores).ks == pytest.approx(expected, abs=1e-12)


def test_ks_of_one_single_score_is_zero_whatever_the_order_of_samples() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0])
    assert score_curve(labels, np.full(6, 0.4)).ks == 0.0
    assert metrics.auc(labels, np.full(6, 0.4)) == 0.5


def test_figures_do_not_change_under_a_monotone_map_of_the_score() -> None:
    labels, scores = _sample(2, levels=9)
    assert metrics.auc(labels, np.exp(3 * scores)) == pytest.approx(metrics.auc(labels, scores), abs=1e-12)
    assert score_curve(labels, np.exp(3 * scores)).ks == pytest.approx(score_curve(labels, scores).ks, abs=1e-12)


def test_reversing_the_score_reverses_auc_and_keeps_ks() -> None:
    labels, scores = _sample(3, levels=9)
    assert metrics.auc(labels, -scores) == pytest.approx(1 - metrics.auc(labels, scores), abs=1e-12)
    assert score_curve(labels, -scores).ks == pytest.approx(score_curve(labels, scores).ks, abs=1e-12)


@given(rows=tied_samples)
@settings(max_examples=150, deadline=None)
def test_the_chosen_threshold_has_the_largest_mcc_of_all_cuts_and_is_the_highest_such_cut(
    rows: list[tuple[int, int]],
) -> None:
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    by_cut = {cut: matthews_corrcoef(labels, scores >= cut) for cut in sorted(set(scores.tolist()), reverse=True)}
    highest = next(cut for cut, value in by_cut.items() if value >= max(by_cut.values()) - 1e-9)
    assert metrics.best_mcc_threshold(labels, scores.astype(float)) == highest


def test_brier_and_log_loss_equal_their_formulas() -> None:
    labels, scores = _sample(4)
    p = np.clip(scores / 1.3, 0.001, 0.999)
    assert metrics.brier(labels, p) == pytest.approx(np.mean((p - labels) ** 2), abs=1e-12)
    assert metrics.log_loss(labels, p) == pytest.approx(-np.mean(np.log(np.where(labels, p, 1 - p))), abs=1e-12)


def test_a_certain_wrong_answer_has_a_finite_log_loss() -> None:
    assert metrics.log_loss(np.array([1, 0]), np.array([0.0, 1.0])) == pytest.approx(-np.log(1e-12), rel=1e-4)


@pytest.mark.parametrize("label", [0, 1])
def test_brier_and_log_loss_are_defined_if_all_samples_have_one_label(label: int) -> None:
    labels, p = np.full(5, label), np.linspace(0.1, 0.9, 5)
    assert metrics.brier(labels, p) == pytest.approx(np.mean((p - label) ** 2), abs=1e-12)
    assert metrics.log_loss(labels, p) == pytest.approx(-np.mean(np.log(np.where(labels, p, 1 - p))), abs=1e-12)


def test_the_weighted_bootstrap_equals_copies_of_the_resampled_persons() -> None:
    labels, scores = _sample(6, size=120, levels=10)
    other = _sample(7, size=120)[1]
    persons = np.random.default_rng(8).integers(30, size=120)
    names = np.array([f"person-{i}" for i in persons])
    confidence, replicates, seed = 0.9, 40, 11
    result = clustered_bootstrap(
        labels,
        {"ours": scores, "theirs": other},
        names,
        replicates=replicates,
        confidence=confidence,
        seed=seed,
        reference="ours",
        thresholds={"ours": 0.7},
    )
    people = sorted(set(names))
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(replicates):
        drawn = rng.integers(len(people), size=len(people))
        index = np.concatenate([np.flatnonzero(names == people[person]) for person in drawn])
        y = labels[index]
        first, second = roc_auc_score(y, scores[index]), roc_auc_score(y, other[index])
        distance = ks_2samp(scores[index][y == 1], scores[index][y == 0]).statistic
        rows.append((first, second, first - second, distance, matthews_corrcoef(y, scores[index] >= 0.7)))
    low, high = np.quantile(np.array(rows), [0.05, 0.95], axis=0)
    found = [result.auc["ours"], result.auc["theirs"], result.auc_differences["theirs"], result.ks["ours"]]
    found.append(result.mcc["ours"])
    np.testing.assert_allclose([f.low for f in found], low, atol=1e-12)
    np.testing.assert_allclose([f.high for f in found], high, atol=1e-12)
    assert (result.clusters, result.replicates) == (len(people), replicates)
    assert result.auc["ours"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def _bootstrap(
    labels: np.ndarray, scores: dict[str, np.ndarray], clusters: np.ndarray, **changes: Any
) -> BootstrapResult:
    arguments: dict[str, Any] = {"replicates": 200, "confidence": 0.95, "seed": 3} | changes
    return clustered_bootstrap(labels, scores, clusters, **arguments)


def test_the_difference_of_a_model_to_itself_is_exactly_zero() -> None:
    labels, scores = _sample(9)
    result = _bootstrap(labels, {"a": scores, "b": scores.copy()}, np.arange(len(labels)), reference="a")
    same = result.auc_differences["b"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert set(result.auc_differences) == {"b"}


def test_an_added_model_does_not_change_the_intervals_of_the_others() -> None:
    labels, scores = _sample(10)
    clusters = np.arange(len(labels)) // 3
    alone = _bootstrap(labels, {"a": scores}, clusters)
    together = _bootstrap(labels, {"b": -scores, "a": scores}, clusters)
    assert alone.auc["a"] == together.auc["a"]
    assert alone.ks["a"] == together.ks["a"]


def test_intervals_are_wider_if_a_person_has_duplicate_samples() -> None:
    labels, scores = _sample(11, size=150)
    labels, scores = np.repeat(labels, 6), np.repeat(scores, 6)
    separate = _bootstrap(labels, {"a": scores}, np.arange(len(labels))).auc["a"]
    together = _bootstrap(labels, {"a": scores}, np.repeat(np.arange(150), 6)).auc["a"]
    assert together.high - together.low > 1.8 * (separate.high - separate.low)


def test_a_resample_without_bad_persons_is_excluded_and_not_counted() -> None:
    labels = np.array([1, *[0] * 9])
    result = _bootstrap(labels, {"a": np.arange(10.0)[::-1]}, np.arange(10), replicates=100)
    assert 0 < result.replicates < 100
    assert np.isfinite([result.auc["a"].low, result.auc["a"].high]).all()


@pytest.mark.parametrize(
    ("labels", "scores", "found"),
    [
        (np.zeros(4, dtype=int), np.arange(4.0), "0 bad of 4"),
        (np.ones(4, dtype=int), np.arange(4.0), "4 bad of 4"),
        (np.array([0, 1, 1]), np.arange(4.0), "expected 3 scores"),
        (np.array([0, 1]), np.array([0.1, np.nan]), "1 others of 2"),
        (np.array([0, 2]), np.array([0.1, 0.2]), "labels 0 and 1"),
    ],
)
def test_samples_that_cannot_be_measured_are_rejected_with_the_reason(
    labels: np.ndarray, scores: np.ndarray, found: str
) -> None:
    with pytest.raises(DataError, match=found):
        score_curve(labels, scores)


def test_an_unknown_reference_is_rejected_by_name() -> None:
    labels, scores = _sample(12)
    with pytest.raises(ConfigError, match="zigong"):
        _bootstrap(labels, {"a": scores}, np.arange(len(labels)), reference="zigong")
