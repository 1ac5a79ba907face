"""LightGBM on baseline features; other samples than those it is fitted on choose the number of trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zigong.evaluation.feature_space import FeatureSpace, aligned

Predictor = Callable[[pd.DataFrame], NDArray[np.float64]]  # features -> p_bad, shape [rows]

MOST_TREES, PATIENCE = 1000, 50
TREES_WITHOUT_STOPPING = 200
_PARAMETERS: dict[str, object] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "cat_smooth": 20.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # two threads busy-wait for each other on a loaded machine and take forty times as long
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Features with their labels.

    Attributes:
        features: output of baseline_features; shape [samples, columns].
        bad: whether each sample is bad; shape [samples].
    """

    features: pd.DataFrame
    bad: NDArray[np.bool_]

    @property
    def has_both_classes(self) -> bool:
        """Whether there are bad and good samples."""
        return bool(self.bad.any()) and not bool(self.bad.all())


def boosted_trees(train: Labelled, stop: Labelled | None, space: FeatureSpace, *, seed: int) -> Predictor:
    """Fits LightGBM.

    Args:
        train: samples that it is fitted on.
        stop: samples on which the log-loss ends the training, after ``PATIENCE`` trees without a smaller one; without
            such samples, or without both classes among them, ``TREES_WITHOUT_STOPPING`` trees are fitted.
        space: columns of the features to use, and their categories.
        seed: seed of the column and row sampling of the trees.
    """

    def rows(features: pd.DataFrame) -> pd.DataFrame:
        return _numbered(aligned(space, features))

    data = lgb.Dataset(rows(train.features), label=train.bad.astype(np.float64))
    parameters = {**_PARAMETERS, "seed": seed}
    if stop is None or not stop.has_both_classes:
        booster = lgb.train(parameters, data, num_boost_round=TREES_WITHOUT_STOPPING)
    else:
        booster = lgb.train(
            parameters,
            data,
            num_boost_round=MOST_TREES,
            valid_sets=[data.create_valid(rows(stop.features), label=stop.bad.astype(np.float64))],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )

    def predict(features: pd.DataFrame) -> NDArray[np.float64]:
        # predict uses the best number of trees where the training was stopped
        return np.asarray(booster.predict(rows(features), num_threads=1), dtype=np.float64)

    return predict


def _numbered(features: pd.DataFrame) -> pd.DataFrame:
    """Columns with numbered names: LightGBM rejects names with JSON characters, which profile keys may contain."""
    return features.set_axis([f"feature_{i}" for i in range(features.shape[1])], axis=1)
