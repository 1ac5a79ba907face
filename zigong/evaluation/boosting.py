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
from scipy.special import expit

from zigong.evaluation.feature_space import FeatureSpace, aligned, space_from_json

Predictor = Callable[[pd.DataFrame], NDArray[np.float64]]  # features -> p_bad, shape [rows]

TREES, COLUMNS = "trees_{}.txt", "columns.json"  # files of fitted trees

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
        boosters: the trees of each seed, whose log-odds are averaged.
        space: the columns that they read, and their categories.
    """

    boosters: tuple[lgb.Booster, ...]
    space: FeatureSpace

    def __call__(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """p_bad of each row of baseline features, by the best number of trees where the training was stopped."""
        rows = _rows(self.space, features)
        log_odds = [booster.predict(rows, raw_score=True, num_threads=1) for booster in self.boosters]
        return np.asarray(expit(np.mean(log_odds, axis=0)), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Writes the files of :func:`tree_files` into an existing folder."""
        for name, booster in zip(tree_files(len(self.boosters)), self.boosters, strict=False):
            (folder / name).write_text(booster.model_to_string(), encoding="utf-8")
        (folder / COLUMNS).write_text(json.dumps(asdict(self.space), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what :meth:`save` wrote."""
        texts = (file.read_text(encoding="utf-8") for file in sorted(folder.glob(TREES.format("*"))))
        columns = space_from_json(json.loads((folder / COLUMNS).read_text(encoding="utf-8")))
        return cls(boosters=tuple(lgb.Booster(model_str=text) for text in texts), space=columns)


def tree_files(seeds: int) -> list[str]:
    """Names of the files of fitted trees: those of each seed, then their columns."""
    return [*(TREES.format(number) for number in range(seeds)), COLUMNS]


def boosted_trees(
    train: Labelled, stop: Labelled | None, space: FeatureSpace, *, seed: int, seeds: int = 1
) -> BoostedTrees:
    """Fits LightGBM.

    Args:
        train: samples that it is fitted on.
        stop: samples on which the log-loss ends the training, after ``PATIENCE`` trees without a smaller one; without
            such samples, or without both classes among them, ``TREES_WITHOUT_STOPPING`` trees are fitted.
        space: columns of the features to use, and their categories.
        seed: first seed of the column and row sampling of the trees.
        seeds: number of seeds.
    """
    data = lgb.Dataset(_rows(space, train.features), label=train.bad.astype(np.float64), free_raw_data=False)
    valid = None
    if stop is not None and stop.has_both_classes:
        valid = data.create_valid(_rows(space, stop.features), label=stop.bad.astype(np.float64))
    boosters = tuple(_fitted(data, valid, seed + number) for number in range(seeds))
    return BoostedTrees(boosters=boosters, space=space)


def _fitted(data: lgb.Dataset, valid: lgb.Dataset | None, seed: int) -> lgb.Booster:
    parameters = {**_PARAMETERS, "seed": seed}
    if valid is None:
        return lgb.train(parameters, data, num_boost_round=TREES_WITHOUT_STOPPING)
    stopping = lgb.early_stopping(PATIENCE, verbose=False)
    return lgb.train(parameters, data, num_boost_round=MOST_TREES, valid_sets=[valid], callbacks=[stopping])


def _rows(space: FeatureSpace, features: pd.DataFrame) -> pd.DataFrame:
    """Columns with numbered names: LightGBM rejects names with JSON characters, which profile keys may contain."""
    used = aligned(space, features)
    return used.set_axis([f"feature_{i}" for i in range(used.shape[1])], axis=1)
