"""LightGBM on baseline features; other samples than those it is fitted on choose the number of trees.

Fitted trees are stored as LightGBM's own text and their columns as JSON: nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zigong.evaluation.feature_space import FeatureSpace, aligned, space_from_json

Predictor = Callable[[pd.DataFrame], NDArray[np.float64]]  # features -> p_bad, shape [rows]

TREES, COLUMNS = "trees.txt", "columns.json"  # files of fitted trees

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


@dataclass(frozen=True, kw_only=True, eq=False)
class BoostedTrees:
    """Fitted trees.

    Attributes:
        booster: the trees.
        space: the columns that they read, and their categories.
    """

    booster: lgb.Booster
    space: FeatureSpace

    def __call__(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """p_bad of each row of baseline features, by the best number of trees where the training was stopped."""
        found = self.booster.predict(_rows(self.space, features), num_threads=1)
        return np.asarray(found, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Writes ``TREES`` and ``COLUMNS`` into an existing folder."""
        (folder / TREES).write_text(self.booster.model_to_string(), encoding="utf-8")
        (folder / COLUMNS).write_text(json.dumps(asdict(self.space), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what :meth:`save` wrote."""
        text = (folder / TREES).read_text(encoding="utf-8")
        columns = space_from_json(json.loads((folder / COLUMNS).read_text(encoding="utf-8")))
        return cls(booster=lgb.Booster(model_str=text), space=columns)


def boosted_trees(train: Labelled, stop: Labelled | None, space: FeatureSpace, *, seed: int) -> BoostedTrees:
    """Fits LightGBM.

    Args:
        train: samples that it is fitted on.
        stop: samples on which the log-loss ends the training, after ``PATIENCE`` trees without a smaller one; without
            such samples, or without both classes among them, ``TREES_WITHOUT_STOPPING`` trees are fitted.
        space: columns of the features to use, and their categories.
        seed: seed of the column and row sampling of the trees.
    """
    data = lgb.Dataset(_rows(space, train.features), label=train.bad.astype(np.float64))
    parameters = {**_PARAMETERS, "seed": seed}
    if stop is None or not stop.has_both_classes:
        booster = lgb.train(parameters, data, num_boost_round=TREES_WITHOUT_STOPPING)
    else:
        booster = lgb.train(
            parameters,
            data,
            num_boost_round=MOST_TREES,
            valid_sets=[data.create_valid(_rows(space, stop.features), label=stop.bad.astype(np.float64))],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
    return BoostedTrees(booster=booster, space=space)


def _rows(space: FeatureSpace, features: pd.DataFrame) -> pd.DataFrame:
    """Columns with numbered names: LightGBM rejects names with JSON characters, which profile keys may contain."""
    used = aligned(space, features)
    return used.set_axis([f"feature_{i}" for i in range(used.shape[1])], axis=1)
