from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zigong.errors import DataError
from zigong.recipe import Card
from zigong.release.scaling import HIGHEST, LOWEST, card_scores, points

CARD = Card(base_score=600, base_odds=20.0, pdo=50)
cards = st.builds(Card, base_score=st.integers(300, 800), base_odds=st.floats(1, 100), pdo=st.integers(10, 100))


def p_bad_at(score: NDArray[np.generic], card: Card) -> NDArray[np.float64]:
    """Inverse of points: the probability of bad of a score."""
    p: NDArray[np.float64] = 1 / (1 + card.base_odds * 2 ** ((score.astype(np.float64) - card.base_score) / card.pdo))
    return p


def test_the_base_odds_have_the_base_score() -> None:
    assert points(np.array([1 / 21]), CARD) == pytest.approx([600])


@given(card=cards, p=st.floats(1e-6, 1 - 1e-6))
def test_doubling_the_odds_of_good_adds_pdo_points(card: Card, p: float) -> None:
    odds = (1 - p) / p
    assert points(np.array([1 / (1 + 2 * odds)]), card)[0] - points(np.array([p]), card)[0] == pytest.approx(
        card.pdo, abs=1e-6
    )


@given(card=cards, p=st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_a_riskier_client_never_has_more_points(card: Card, p: list[float]) -> None:
    ordered = np.sort(np.array(p))
    assert (np.diff(card_scores(ordered, card)) <= 0).all()


@given(card=cards, p=st.floats(1e-6, 1 - 1e-6))
def test_points_and_probabilities_are_inverse(card: Card, p: float) -> None:
    assert p_bad_at(points(np.array([p]), card), card)[0] == pytest.approx(p, rel=1e-9)


def test_every_score_is_the_score_of_some_probability() -> None:
    scores = np.arange(LOWEST, HIGHEST + 1)
    np.testing.assert_array_equal(card_scores(p_bad_at(scores, CARD), CARD), scores)


def test_certain_probabilities_have_scores_within_the_scale() -> None:
    assert card_scores(np.array([0.0, 1.0]), CARD).tolist() == [HIGHEST, LOWEST]
    assert card_scores(np.array([0.5]), CARD).dtype == np.int32


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_values_that_are_not_probabilities_are_rejected(p: float) -> None:
    with pytest.raises(DataError, match="1 other values of 2"):
        card_scores(np.array([0.5, p]), CARD)
