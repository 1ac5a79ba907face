"""Baselines on the columns of the raw file: majority, logistic regression, LightGBM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from zigong.calm.answers import Answers
from zigong.calm.prepared import Prepared
from zigong.calm.records import Record
from zigong.evaluation.baselines import constant, logistic
from zigong.evaluation.boosting import Labelled, Predictor, boosted_trees
from zigong.evaluation.feature_space import FeatureSpace


def baseline_answers(prepared: Prepared, *, seed: int) -> dict[str, Answers]:
    """Answers to the test records of every baseline, fitted on the training records and not tuned.

    Args:
        prepared: the task.
        seed: seed of the rows and columns of the trees.
    """
    task = prepared.task
    train, test = _features(prepared, prepared.train), _features(prepared, prepared.test)
    bad = np.array([record.truth == task.bad for record in prepared.train])
    space = FeatureSpace(
        numbers=tuple(column.column for column in task.features if column.kind == "number"),
        words={
            column.column: tuple(sorted(train[column.column].unique()))
            for column in task.features
            if column.kind != "number"
        },
    )
    predictors: dict[str, Predictor] = {
        "majority": constant(float(bad.mean())),
        "logistic": logistic(train, bad, space),
        "lightgbm": boosted_trees(Labelled(features=train, bad=bad), None, space, seed=seed),
    }
    truth = tuple(record.truth for record in prepared.test)
    called, other = task.bad_first
    found = {name: predict(test) for name, predict in predictors.items()}
    return {
        name: Answers(truth=truth, logit=tuple(np.where(p >= 0.5, called, other).tolist()), p_bad=tuple(p.tolist()))
        for name, p in found.items()
    }


def _features(prepared: Prepared, records: Sequence[Record]) -> pd.DataFrame:
    columns = prepared.task.features
    texts = pd.DataFrame([record.values for record in records], columns=[column.column for column in columns])
    return texts.astype({column.column: np.float64 for column in columns if column.kind == "number"})
