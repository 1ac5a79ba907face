"""A scorecard as lenders build them: logistic regression on binned features, the baseline that a new model has to beat.

Bins bound what a number can add to the score. Plain logistic regression extrapolates: a count that grows with the
calendar leaves the range that it was fitted on, and takes the score with it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from zigong.evaluation.boosting import Labelled, Predictor
from zigong.evaluation.feature_words import FeatureWords

BINS = 10  # quantiles of the train samples; missing and 0 have bins of their own
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)  # inverse strengths of the L2 penalty
WITHOUT_CHOICE = 0.01


def scorecard(train: Labelled, stop: Labelled | None, columns: list[str]) -> Predictor:
    """Fits the points of every bin.

    Args:
        train: samples that bins and points are fitted on.
        stop: samples whose log-loss chooses the penalty; without them, or without both classes among them, it is
            ``WITHOUT_CHOICE``.
        columns: the features to use.
    """
    bins = FeatureWords.of(train.features, columns, quantiles=BINS)
    known = _indicators(bins, train.features)

    def fitted(strength: float) -> Predictor:
        model = LogisticRegression(C=strength, max_iter=1000).fit(known, train.bad)

        def predict(features: pd.DataFrame) -> NDArray[np.float64]:
            p_bad: NDArray[np.float64] = model.predict_proba(_indicators(bins, features))[:, 1]
            return p_bad

        return predict

    if stop is None or not stop.has_both_classes:
        return fitted(WITHOUT_CHOICE)
    return min(map(fitted, STRENGTHS), key=lambda predict: log_loss(stop.bad, predict(stop.features)))


def _indicators(bins: FeatureWords, features: pd.DataFrame) -> csr_matrix:
    """One column per bin of each feature, 1 where a sample is in it; shape [rows, bins of all features]."""
    words = bins(features)
    starts = np.concatenate([[0], np.cumsum(bins.sizes)])
    columns = (words + starts[:-1]).ravel()
    ends = np.arange(0, words.size + 1, words.shape[1])
    return csr_matrix((np.ones(words.size), columns, ends), shape=(len(words), starts[-1]))
