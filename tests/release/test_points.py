"""The points that are released are measured next to the probabilities they were made from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from zigong.evaluation.held_out import Figure, Published, held_out_figures
from zigong.evaluation.measured import ModelFigures
from zigong.recipe import Card, Evaluation
from zigong.release.points import METRICS, PointsQuality, points_figures, points_quality

SPLITS = ("select", "oot")
SIZE = 6000


def book(logit_spread: float, centre: float) -> tuple[pa.Table, np.ndarray]:
    """Half of the clients in ``select``, half out of time, with labels drawn from their probabilities."""
    generator = np.random.default_rng(5)
    p = expit(generator.normal(centre, logit_spread, SIZE))
    labels = (generator.random(SIZE) < p).astype(int)
    names = [f"c{index}" for index in range(SIZE)]
    split = [SPLITS[index % 2] for index in range(SIZE)]
    return pa.table({"sample_id": names, "user_id": names, "split": split, "label": labels}), p


def quality(logit_spread: float, centre: float, card: Card) -> PointsQuality:
    members, p = book(logit_spread, centre)
    scores = {"m": p, "flat": np.full(SIZE, 0.1)}
    settings = Evaluation(bootstrap=5)
    figures: list[Figure] = held_out_figures(
        members, Published.of(members, scores), final="m", splits=SPLITS, unit="user_id", settings=settings, seed=1
    )
    figures += points_figures(members, p, model_id="m", splits=SPLITS, card=card)
    found = points_quality(
        ModelFigures(model_id="m", figures={(f.model_id, f.split, f.metric): f for f in figures}), "oot"
    )
    assert found is not None
    return found


def test_an_ordinary_book_ranks_as_well_by_points_as_by_probability_and_gives_no_warning() -> None:
    found = quality(1.2, -3.0, Card())
    assert found.auc == pytest.approx(found.p_auc, abs=2e-3)
    assert found.ks == pytest.approx(found.p_ks, abs=5e-3)
    assert found.warnings == ()


def test_the_figures_are_those_of_the_rounded_and_clipped_points() -> None:
    members, p = book(1.0, -3.0)
    card = Card(base_score=600, base_odds=20.0, pdo=1)
    found = {(f.split, f.metric): f.value for f in points_figures(members, p, model_id="m", splits=SPLITS, card=card)}
    out = np.asarray(members["split"]) == "oot"
    labels = np.asarray(members["label"])[out]
    by_points = quality(1.0, -3.0, card)
    assert found["oot", "points_auc"] == by_points.auc < by_points.p_auc - 0.005
    # With pdo 1 a step of one point doubles the odds: the points are the rounded base-2 logarithm of the odds.
    logit = np.log(p) - np.log1p(-p)
    steps = np.rint(-logit[out] / np.log(2))
    assert found["oot", "points_auc"] == pytest.approx(roc_auc_score(labels, -steps), abs=0.02)
    assert found["oot", "points_ks"] == pytest.approx(
        ks_2samp(steps[labels == 1], steps[labels == 0]).statistic, abs=0.03
    )
    assert any("the same points: raise card.pdo" in text for text in by_points.warnings)


def test_a_share_at_an_end_of_the_scale_is_warned_of() -> None:
    found = quality(6.0, -14.0, Card(base_score=900, pdo=100))
    assert found.at_highest > 0.5
    (text,) = [text for text in found.warnings if "999 points" in text]
    assert text.startswith(f"{found.at_highest:.1%} of the samples have 999 points")
    assert found.at_lowest < 0.05


def test_a_run_without_figures_of_points_has_none() -> None:
    assert points_quality(ModelFigures(model_id="m", figures={}), "oot") is None
    assert len(METRICS) == 5
