"""Features as words: quantiles with their edges, and words of their own for missing and zero."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from tests.support.sequence_rows import OUTCOMES, SHANGHAI, random_rows, sequence_table
from zigong.evaluation.feature_words import FIRST, MISSING, RAREST, ZERO, FeatureWords
from zigong.features.baseline import baseline_features

TRAIN = pd.DataFrame({"gap_days": [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, np.nan], "count_a_1m": [0.0] * 5 + [2.0, 2.0]})


def test_a_number_is_the_quantile_that_it_lies_in_and_missing_and_zero_are_words_of_their_own() -> None:
    words = FeatureWords.of(TRAIN, list(TRAIN.columns), quantiles=4)
    assert words.edges == ((2.0, 3.0, 4.0), (2.0,))  # of 1 to 5, without 0 and missing; equal edges count once
    asked = pd.DataFrame({"gap_days": [np.nan, 0.0, -7.0, 1.9, 2.0, 3.5, 4.0, 99.0], "count_a_1m": [0, 1, 2, 3] * 2})
    found = words(asked)
    assert found[:, 0].tolist() == [MISSING, ZERO, FIRST, FIRST, FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 3]
    assert found[:4, 1].tolist() == [ZERO, FIRST, FIRST + 1, FIRST + 1]
    assert words.sizes == (FIRST + 4, FIRST + 2)


def test_a_count_that_is_absent_is_zero_and_another_number_is_missing() -> None:
    words = FeatureWords.of(TRAIN, list(TRAIN.columns), quantiles=4)
    assert words(pd.DataFrame(index=range(2))).tolist() == [[MISSING, ZERO]] * 2


def test_a_rare_or_unseen_category_is_missing() -> None:
    column = ["car"] * RAREST + ["home"] * (RAREST - 1) + [None]
    words = FeatureWords.of(pd.DataFrame({"profile_purpose": column}), ["profile_purpose"], quantiles=4)
    assert words.sizes == (2,)
    asked = pd.DataFrame({"profile_purpose": ["car", "home", "boat", None]})
    assert words(asked)[:, 0].tolist() == [1, MISSING, MISSING, MISSING]


def test_words_read_back_from_json_are_the_same_and_lie_within_their_sizes() -> None:
    train = baseline_features(sequence_table(random_rows(1, users=120)), OUTCOMES, SHANGHAI)
    words = FeatureWords.of(train, list(train.columns), quantiles=5)
    stored = json.dumps(words.as_json(), sort_keys=True)
    unseen = baseline_features(sequence_table(random_rows(2, users=60)), OUTCOMES, SHANGHAI)
    found = words(unseen)
    np.testing.assert_array_equal(FeatureWords.from_json(json.loads(stored))(unseen), found)
    assert found.shape == (60, len(words.sizes))
    assert (found >= 0).all()
    assert (found < np.array(words.sizes)).all()
    assert len(np.unique(found, axis=0)) > 20
