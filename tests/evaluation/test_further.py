"""Labels, calibration and figures of further horizons on the held-out splits."""

from __future__ import annotations

from datetime import date
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.finished import TINY
from zigong.evaluation.further import HeldOutHorizon, asked_horizons, further_labels, held_out_horizons, horizon_figures
from zigong.evaluation.fusion import fit_stack, stacked
from zigong.evaluation.horizons import horizon_lists
from zigong.evaluation.metrics import auc, brier, log_loss
from zigong.recipe import Horizon, load_recipe

MAY, JUNE = date(2023, 5, 1), date(2023, 6, 1)
TWO, SHORT = Horizon(window_months=2), Horizon(window_months=1, dpd_threshold=10)
RECIPE = load_recipe(
    TINY,
    [
        "labels.horizons=[{window_months: 1}, {window_months: 2}, {window_months: 1, dpd_threshold: 10}]",
        "evaluation.bootstrap=20",
    ],
)


def members_of(*placed: tuple[str, str, date]) -> pa.Table:
    rows = [
        {"sample_id": f"{user} {day}", "user_id": user, "loan_id": "", "observation_date": day, "split": split}
        for user, split, day in placed
    ]
    return pa.Table.from_pylist(rows)


def label(user: str, day: date, horizon: Horizon, outcome: str) -> dict[str, Any]:
    return {"user_id": user, "loan_id": "", "observation_date": day, "outcome": outcome, **horizon.model_dump()}


def test_a_label_is_used_where_it_is_mature_at_as_of_and_before_the_next_split() -> None:
    """Two months from May end after OOT begins in June; two months from June have ended on 2 August, not a day ago."""
    members = members_of(("a", "select", MAY), ("b", "oot", JUNE), ("c", "oot", JUNE), ("a", "oot", JUNE))
    rows = [label(user, day, horizon, "good") for user, day, horizon in product("bc", (MAY, JUNE), (TWO, SHORT))]
    rows += [label("a", MAY, TWO, "bad"), label("a", MAY, SHORT, "bad"), label("a", JUNE, TWO, "bad")]
    found = further_labels(members, pa.Table.from_pylist(rows), RECIPE)
    nan = np.nan
    np.testing.assert_array_equal(found, [[nan, 1], [0, 0], [0, 0], [1, nan]])
    earlier = RECIPE.model_copy(update={"as_of": date(2023, 7, 31)})
    found = further_labels(members, pa.Table.from_pylist(rows), earlier)
    np.testing.assert_array_equal(found, [[nan, 1], [nan, 0], [nan, 0], [nan, nan]])


@pytest.fixture(scope="module")
def drawn() -> tuple[pa.Table, pa.Table, pa.Table, np.ndarray, np.ndarray]:
    """Members, labels, answers, their raw p_bad [members, 2] and the calibrated main answer [members]."""
    users = [f"u{number:03d}" for number in range(200)]
    members = members_of(*((user, split, day) for user in users for split, day in (("select", MAY), ("oot", JUNE))))
    random = np.random.default_rng(1)
    risk = random.normal(size=len(members)) - 1
    bad = random.random(len(members)) < 1 / (1 + np.exp(-risk))
    rows = [
        label(row["user_id"], row["observation_date"], horizon, "bad" if is_bad else "good")
        for row, is_bad in zip(members.to_pylist(), bad, strict=True)
        for horizon in (TWO, SHORT)
    ]
    p_bad = 1 / (1 + np.exp(-np.column_stack([risk, 2 * risk + random.normal(size=len(risk))])))
    answers = pa.table({"horizons": horizon_lists([TWO, SHORT], p_bad)})
    p_main = 1 / (1 + np.exp(-3 * risk))  # too extreme: above the calibrated answers only where the risk is high
    return members, pa.Table.from_pylist(rows), answers, p_bad, p_main


def test_figures_are_those_of_the_calibrated_and_agreed_answers(drawn: Any) -> None:
    members, labels, answers, p_bad, p_main = drawn
    held = held_out_horizons(members, answers, labels, RECIPE)
    figures = horizon_figures(held, p_main, members, model_id="card", splits=("select", "oot"), recipe=RECIPE)
    split = np.asarray(members["split"])
    truth = further_labels(members, labels, RECIPE)[:, 1].astype(int)
    select, oot = split == "select", split == "oot"
    stack = fit_stack(p_bad[select, 1], p_main[select], truth[select])
    own = stacked(stack, p_bad[:, 1], p_main)
    agreed = np.maximum(own, p_main)  # 10 days late is no less likely than 30
    named = {(item.slice, item.split, item.metric): item for item in figures}
    for metric, measure in (("auc", auc), ("brier", brier), ("log_loss", log_loss)):
        found = named["horizon=1m10dpd", "oot", metric]
        assert found.value == pytest.approx(measure(truth[oot], agreed[oot]))
        assert found.low is not None and found.low <= found.value
        assert found.samples == 200
    assert named["horizon=1m10dpd", "oot", "corrected"].value == pytest.approx((own < p_main)[oot].mean())
    assert 0 < named["horizon=1m10dpd", "oot", "corrected"].value < 1
    assert named["horizon=1m10dpd", "oot", "labelled"].value == 1
    assert not any(item.slice == "horizon=2m30dpd" for item in figures)
    assert [asked.horizon for asked in asked_horizons(held, p_main)] == [
        SHORT
    ]  # no May label of two months may be used


def test_a_horizon_without_answers_or_of_one_class_has_no_calibration() -> None:
    splits = np.array(["select", "select", "oot"])
    one = HeldOutHorizon(horizon=TWO, splits=splits, labels=np.array([0.0, 1, 1]), p_bad=np.array([0.1, np.nan, 0.3]))
    p_main = np.array([0.1, 0.2, 0.3])
    assert one.calibrated_on_select(p_main) is None
    both = HeldOutHorizon(horizon=TWO, splits=splits, labels=np.array([0.0, 1, 1]), p_bad=np.array([0.1, 0.2, 0.3]))
    assert both.calibrated_on_select(p_main) is not None
