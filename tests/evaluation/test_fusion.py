"""A card of a language model and trees: their log-odds are added with weights of 0 or more, fitted on ``select``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from tests.support.sequence_rows import OUTCOMES, SHANGHAI, random_rows, sequence_table
from zigong.errors import DataError
from zigong.evaluation.boosting import BoostedTrees, Labelled, boosted_trees, tree_files
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.cards import best_trees
from zigong.evaluation.feature_space import feature_space
from zigong.evaluation.fusion import fit_stack, fused_answers, stacked
from zigong.features.baseline import baseline_features

RNG = np.random.default_rng(3)
SIZE = 4000
SIGNAL, OTHER = RNG.normal(size=SIZE), RNG.normal(size=SIZE)
BAD = (RNG.random(SIZE) < expit(-1 + SIGNAL + 0.5 * OTHER)).astype(np.int64)


def test_the_weights_of_two_parts_are_those_that_made_the_labels() -> None:
    found = fit_stack(expit(SIGNAL), expit(OTHER), BAD)
    assert (found.intercept, found.model, found.trees) == pytest.approx((-1, 1, 0.5), abs=0.12)
    together = log_loss(BAD, stacked(found, expit(SIGNAL), expit(OTHER)))
    for part in (expit(SIGNAL), expit(OTHER)):
        assert together < log_loss(BAD, calibrated(fit_calibration(part, BAD), part))


def test_a_part_that_ranks_the_wrong_way_gets_no_weight() -> None:
    found = fit_stack(expit(-SIGNAL), expit(OTHER), BAD)
    assert found.model == 0
    assert found.trees > 0.3


def test_the_card_has_the_trees_with_the_smaller_log_loss() -> None:
    name, stack = best_trees(expit(SIGNAL), {"noise": expit(RNG.normal(size=SIZE)), "good": expit(OTHER)}, BAD)
    assert name == "good"
    assert stack == fit_stack(expit(SIGNAL), expit(OTHER), BAD)


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="expected both classes, found 0 bad of 3"):
        fit_stack(np.full(3, 0.2), np.full(3, 0.2), np.zeros(3, dtype=np.int64))


def test_misses_and_prompts_without_an_answer_stay_what_they_are() -> None:
    answers = pa.table(
        {
            "sample_id": ["a", "b", "c"],
            "p_bad": pa.array([0.1, 0.1, None]),
            "answer": pa.array(["No", None, None], pa.string()),
            "miss": pa.array([False, True, None]),
        }
    )
    found = fused_answers(answers, np.array([0.9, 0.9, 0.9]), ("Yes", "No")).to_pydict()
    assert found["p_bad"] == [0.9, 0.9, None]
    assert found["answer"] == ["Yes", None, None]
    assert found["miss"] == [False, True, None]


def test_stored_trees_answer_as_the_fitted_ones_do(tmp_path: Path) -> None:
    features = baseline_features(sequence_table(random_rows(1, users=300)), OUTCOMES, SHANGHAI)
    features['profile_"odd": [key]'] = pd.Series(np.where(np.arange(300) % 3, "x{}", "y"))
    bad = np.arange(300) % 4 == 0
    trees = boosted_trees(
        Labelled(features=features, bad=bad), None, feature_space(features, [*features]), seed=1, seeds=2
    )
    trees.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(tree_files(2))
    unseen = baseline_features(sequence_table(random_rows(2, users=200)), OUTCOMES, SHANGHAI)
    np.testing.assert_array_equal(BoostedTrees.load(tmp_path)(unseen), trees(unseen))
    assert len(np.unique(trees(unseen))) > 20
