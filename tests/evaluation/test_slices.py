"""Slices, deciles, fairness and shift against counts by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from zigong.errors import ConfigError
from zigong.evaluation.baselines import Baselines
from zigong.evaluation.boosting import Labelled, boosted_trees
from zigong.evaluation.feature_space import feature_space
from zigong.evaluation.figures import evaluation_figures
from zigong.evaluation.groups import Draws, decile_bad_rates, fairness, score_deciles
from zigong.evaluation.held_out import WHOLE, Figure, Published, metric_rows
from zigong.evaluation.measured import ModelFigures
from zigong.evaluation.metrics import auc
from zigong.evaluation.shift import feature_psi, score_psi
from zigong.evaluation.slice_figures import SplitSamples, sliced_figures
from zigong.evaluation.slices import attribute_groups, history_groups, slice_names, slices_of
from zigong.recipe import Evaluation, load_recipe

SIZE = 600
Evaluated = tuple[list[Figure], dict[str, np.ndarray]]


def draws(size: int, replicates: int = 50) -> Draws:
    return Draws(clusters=np.arange(size), replicates=replicates, confidence=0.95, seed=1)


def test_each_sample_is_in_one_slice_of_each_respect() -> None:
    members = pa.table(
        {
            "observation_date": [date(2023, 6, 1), date(2023, 7, 1), date(2023, 7, 1)],
            "user_id": ["a", "b", "c"],
        }
    )
    features = pd.DataFrame({"months_of_history": [5.0, 6.0, 24.0], "profile_sex": ["F", None, "M"]})
    found = slices_of(members, features, np.array(["b"]), unit="user_id", segments=("sex",))
    assert {name: words.tolist() for name, words in found.items()} == {
        "month": ["2023-06", "2023-07", "2023-07"],
        "history": ["under 6 months", "6 to 11 months", "24 or more months"],
        "person": ["new", "known", "new"],
        "sex": ["F", "not stated", "M"],
    }
    sizes = {name: int(chosen.sum()) for name, chosen in slice_names(found)}
    assert sizes["month=2023-07"] == 2
    assert sum(size for name, size in sizes.items() if name.startswith("sex=")) == 3


def test_history_groups_change_at_their_lower_ends() -> None:
    found = history_groups(np.array([0.0, 11, 12, 23, 24]))
    assert found.tolist() == ["under 6 months", "6 to 11 months", *["12 to 23 months"] * 2, "24 or more months"]


def test_many_numbers_are_divided_into_thirds_and_rare_words_are_one_group() -> None:
    ages = pd.Series([*(str(age) for age in range(1, 31)), "not stated"])
    groups, sizes = np.unique(attribute_groups(ages), return_counts=True)
    assert sizes.tolist() == [10, 10, 1, 10]
    assert "not stated" in groups.tolist()
    words = pd.Series([*["common"] * 5, *(f"word{i}" for i in range(40))])
    found = attribute_groups(words)
    assert len(np.unique(found)) == 21
    assert int(np.sum(found == "other values")) == 21
    assert int(np.sum(found == "common")) == 5


def test_an_unknown_attribute_is_refused_with_those_that_exist() -> None:
    members = pa.table({"observation_date": [date(2023, 6, 1)], "user_id": ["a"]})
    features = pd.DataFrame({"months_of_history": [5.0], "profile_sex": ["F"]})
    with pytest.raises(ConfigError, match=r"evaluation\.segments.*'region'.*sex"):
        slices_of(members, features, np.array([]), unit="user_id", segments=("region",))


def test_the_first_decile_holds_the_highest_scores_and_ties_are_never_divided() -> None:
    scores = np.arange(100) / 100
    assert np.bincount(score_deciles(scores)).tolist() == [0, *[10] * 10]
    assert score_deciles(scores)[99] == 1
    assert len(np.unique(score_deciles(np.full(50, 0.3)))) == 1
    labels = (np.arange(100) >= 95).astype(int)
    found = decile_bad_rates(labels, scores, draws(100))
    assert {decile: rate.value for decile, (_, rate) in found.items()} == {1: 0.5} | dict.fromkeys(range(2, 11), 0.0)


def test_fairness_equals_its_counts_by_hand() -> None:
    # F: 40 samples, 30 spared; 20 good, 18 of them spared. M: 50 samples, 30 spared; 40 good, 28 spared.
    groups = np.array(["F"] * 40 + ["M"] * 50 + ["X"] * 29)
    good = np.array([1] * 20 + [0] * 20 + [1] * 40 + [0] * 10 + [1] * 29)
    spared = np.array([1] * 18 + [0] * 2 + [1] * 12 + [0] * 8 + [1] * 28 + [0] * 12 + [1] * 2 + [0] * 8 + [1] * 29)
    found = fairness(groups, "F", 1 - good, spared == 0, draws(119, 400))
    ratio, difference = found["M"].impact_ratio, found["M"].opportunity_difference
    assert ratio is not None
    assert difference is not None
    assert ratio.value == pytest.approx((30 / 50) / (30 / 40))
    assert difference.value == pytest.approx(28 / 40 - 18 / 20)
    assert ratio.low < ratio.value < ratio.high
    assert found["F"].impact_ratio is not None
    assert found["F"].impact_ratio.value == 1.0
    assert (found["X"].samples, found["X"].impact_ratio, found["X"].opportunity_difference) == (29, None, None)


def test_a_reference_that_nobody_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="reference value 'D'"):
        fairness(np.array(["F", "M"]), "D", np.array([0, 1]), np.array([True, False]), draws(2))


def test_psi_of_equal_scores_is_zero_and_of_shifted_ones_follows_its_formula() -> None:
    reference = np.arange(1000) / 1000
    assert score_psi(reference, reference) == 0.0
    moved = np.where(reference < 0.1, 0.95, reference)  # the lowest tenth moves into the highest
    assert score_psi(reference, moved) == pytest.approx(
        0.1 * np.log(0.2 / 0.1) - 0.1 * np.log(0.0005 / 0.1005), rel=0.05
    )
    train = pd.DataFrame({"count_x_3m": reference, "profile_sex": ["F", "M"] * 500, "dpd_lag_1": np.nan})
    shifted = train.assign(profile_sex=["F"] * 750 + ["M"] * 250)
    found = feature_psi(train, shifted)
    assert found["count_x_3m"] == 0.0
    assert found["profile_sex"] == pytest.approx(0.25 * np.log(0.75 / 0.5) - 0.25 * np.log(0.25 / 0.5), rel=0.01)
    assert "dpd_lag_1" not in found


@pytest.fixture(scope="module")
def evaluated() -> Evaluated:
    """The figures of a drawn sample, and what they can be counted from."""
    rng = np.random.default_rng(3)
    labels = (rng.random(SIZE) < 0.3).astype(np.int64)
    split = np.where(np.arange(SIZE) % 2, "select", "oot")
    sex = np.where(rng.random(SIZE) < 0.5, "F", "M")
    months = rng.integers(1, 40, SIZE).astype(float)
    days = [date(2023, 5, 1) if part == "select" else date(2023, 6 + i % 3 // 2, 1) for i, part in enumerate(split)]
    members = pa.table({"split": split, "label": labels, "user_id": np.arange(SIZE), "observation_date": days})
    scores = {
        "zigong-1": np.clip(0.2 * labels + 0.7 * rng.random(SIZE), 0.01, 0.99),
        "lightgbm": np.clip(0.3 * labels + 0.6 * rng.random(SIZE), 0.01, 0.99),
        "majority": np.full(SIZE, 0.3),
    }
    features = pd.DataFrame({"months_of_history": months, "profile_sex": sex})
    trees = boosted_trees(
        Labelled(features=features, bad=labels == 1), None, feature_space(features, ["months_of_history"]), seed=1
    )
    train = pa.table({"user_id": np.arange(100)})
    baselines = Baselines(p_bad={}, trees={"lightgbm": trees}, train=train, train_features=features, features=features)
    recipe = load_recipe("tests/tiny.yaml")
    evaluation = recipe.evaluation.model_copy(update={"bootstrap": 10, "segments": ("sex",), "fairness": {"sex": "F"}})
    published = Published.of(members, scores, {"zigong-1": np.zeros(SIZE, dtype=bool)})
    figures = evaluation_figures(
        members,
        published,
        baselines,
        final="zigong-1",
        splits=("select", "oot"),
        recipe=recipe.model_copy(update={"evaluation": evaluation}),
    )
    known = {"labels": labels, "oot": split == "oot", "sex": sex, "scores": published.scores["zigong-1"]}
    return figures, known


def test_a_slice_is_measured_on_its_own_samples_for_the_model_and_the_best_other_one(evaluated: Evaluated) -> None:
    figures, known = evaluated
    found = {(f.model_id, f.slice, f.metric): f for f in figures if f.split == "oot"}
    women = known["oot"] & (known["sex"] == "F")
    own = found["zigong-1", "sex=F", "auc"]
    assert own.value == pytest.approx(auc(known["labels"][women], known["scores"][women]))
    assert own.samples == int(women.sum())
    assert ("lightgbm", "sex=F", "auc") in found
    assert ("majority", "sex=F", "auc") not in found
    assert found["zigong-1", "sex=M", "adverse_impact_ratio"].samples == int((known["oot"] & ~women).sum())
    rates = [found["zigong-1", f"score_decile={decile}", "bad_rate"].value for decile in range(1, 11)]
    assert np.mean(rates) == pytest.approx(known["labels"][known["oot"]].mean(), abs=0.01)
    shares = [f.value for f in figures if f.metric == "share" and f.slice.startswith("sex=")]
    assert sum(shares) == pytest.approx(1)


def test_every_row_of_an_evaluation_has_its_own_key(evaluated: Evaluated) -> None:
    figures, _ = evaluated
    rows, _ = metric_rows(figures, "ds-1")
    keys = rows.select(["dataset_id", "model_id", "split", "slice", "metric"]).to_pandas()
    assert not keys.duplicated().any()
    assert np.isfinite(rows["value"].to_numpy()).all()


def test_a_slice_with_few_samples_or_one_class_is_counted_and_not_measured() -> None:
    words = np.array(["few"] * 29 + ["good"] * 40 + ["both"] * 40)
    labels = np.array([0, 1] * 14 + [1] + [0] * 40 + [0, 1] * 20)
    p = np.linspace(0.1, 0.9, 109)
    samples = SplitSamples(
        split="oot",
        labels=labels,
        clusters=np.arange(109),
        published=Published(scores={"a": p, "b": p[::-1]}, thresholds={"a": 0.5, "b": 0.5}, missed={}),
    )
    found = sliced_figures(samples, {"kind": words}, final="a", settings=Evaluation(bootstrap=5), seed=1)
    counted = {f.slice: (f.samples, f.value) for f in found if f.metric == "share"}
    assert counted == {"kind=few": (29, 29 / 109), "kind=good": (40, 40 / 109), "kind=both": (40, 40 / 109)}
    assert {f.slice for f in found if f.metric == "auc"} == {"kind=both"}


def test_figures_of_slices_are_read_apart_from_those_of_splits(evaluated: Evaluated) -> None:
    figures, _ = evaluated
    rows, _ = metric_rows(figures, "ds-1")
    measured = ModelFigures.of(rows, "zigong-1")
    assert {f.slice for f in measured.figures.values()} == {WHOLE}
    assert "sex=F" in {f.slice for f in measured.slices}
    assert measured.value("zigong-1", "oot", "psi") >= 0
    earlier = ModelFigures.of(rows.filter(pc.equal(rows["slice"], WHOLE)).drop_columns(["slice"]), "zigong-1")
    assert earlier.figures == measured.figures
