"""Figures of the held-out splits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from zigong.evaluation import metrics, resampled
from zigong.evaluation.held_out import Figure, Published, flat_figures, held_out_figures, shown_names
from zigong.recipe import Evaluation


def figures_of_a_drawn_sample() -> list[Figure]:
    rng = np.random.default_rng(5)
    labels = rng.integers(2, size=400)
    p_bad = {"zigong-1": np.clip(0.3 * labels + 0.6 * rng.random(400), 0, 1), "majority": np.full(400, 0.5)}
    split = np.where(np.arange(400) % 2 == 0, "select", "oot")
    members = pa.table({"split": split, "label": labels, "user_id": np.arange(400) // 2})
    settings = Evaluation(bootstrap=20)
    return held_out_figures(
        members,
        Published.of(members, p_bad),
        final="zigong-1",
        splits=("select", "oot"),
        unit="user_id",
        settings=settings,
        seed=1,
    )


def test_a_metric_added_to_the_table_is_measured_on_every_split_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resampled.INTERVAL_METRICS, "gini", lambda resample: 2 * resample.curve.auc - 1)
    monkeypatch.setitem(metrics.POINT_METRICS, "bias", lambda labels, p_bad: float(np.mean(p_bad - labels)))
    found = {(f.split, f.model_id, f.metric): f for f in figures_of_a_drawn_sample()}
    for split in ("select", "oot"):
        for model in ("zigong-1", "majority"):
            auc, gini = (found[split, model, name] for name in ("auc", "gini"))
            ends = (gini.value, gini.low, gini.high)
            assert ends == pytest.approx([2 * end - 1 for end in (auc.value, auc.low or 0, auc.high or 0)])
            assert found[split, model, "bias"].low is None
    flat = flat_figures(found.values(), names=shown_names("zigong-1", {"lm": "zigong-2"}), split="oot", name="oot")
    assert {"oot.gini.zigong", "oot.gini_low.zigong", "oot.bias.zigong"} <= set(flat)
