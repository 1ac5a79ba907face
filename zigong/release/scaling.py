"""Probabilities to points: the linear scale of log-odds that credit scorecards use (Siddiqi 2006, chapter 6).

``score = base_score + pdo / ln 2 * (ln(odds good to bad) - ln(base_odds))``. Points are integers between
LOWEST and HIGHEST, so certainty in either direction is still a score of at most three digits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zigong.errors import DataError
from zigong.recipe import Card

Floats = NDArray[np.float64]

LOWEST, HIGHEST = 1, 999


def points(p_bad: Floats, card: Card) -> Floats:
    """Unrounded points, higher is safer; infinite at 0 and 1. Shape [samples].

    Raises:
        DataError: a value is not a probability.
    """
    p = np.asarray(p_bad, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(
            f"expected probabilities in [0, 1], found {int(np.sum(~((p >= 0) & (p <= 1))))} other values of {p.size}",
            action="find the model that returned NaN",
        )
    with np.errstate(divide="ignore"):
        log_odds = np.log1p(-p) - np.log(p)
    scaled: Floats = card.base_score + card.pdo / math.log(2) * (log_odds - math.log(card.base_odds))
    return scaled


def card_scores(p_bad: Floats, card: Card) -> NDArray[np.int32]:
    """Integer points of the Behavior Card, within LOWEST and HIGHEST. Shape [samples]."""
    return np.clip(np.rint(points(p_bad, card)), LOWEST, HIGHEST).astype(np.int32)
