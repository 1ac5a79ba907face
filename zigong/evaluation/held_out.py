"""All models on the held-out splits: answers of the baselines, figures with clustered intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.metrics import POINT_METRICS, best_mcc_threshold
from zigong.recipe import Evaluation

FINAL = "zigong"
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure of one model on one split."""

    model_id: str
    split: str
    metric: str
    value: float
    low: float | None
    high: float | None
    samples: int


def answers_of(model_id: str, members: pa.Table, p_bad: Floats, choices: Sequence[str]) -> pa.Table:
    """Rows of evaluation_answers (without dataset_id) for a model that never misses, such as a baseline."""
    answer = np.where(p_bad >= 0.5, choices[0], choices[1])
    return pa.table(
        {
            "model_id": pa.repeat(model_id, len(members)),
            "sample_id": members["sample_id"],
            "split": members["split"],
            "answer": pa.array(answer, pa.string()),
            "p_bad": pa.array(p_bad, pa.float64()),
            "miss": pa.array(np.zeros(len(members), dtype=bool)),
        }
    )


def held_out_figures(
    members: pa.Table,
    scores: Mapping[str, Floats],
    *,
    splits: Sequence[str],
    unit: str,
    settings: Evaluation,
    seed: int,
) -> list[Figure]:
    """Every metric of every model on every split, those of resamples with intervals.

    Every model is calibrated on ``select``, as a released one is; its threshold is chosen there too, on the calibrated
    probabilities, and both are kept. Intervals come from drawing whole ``unit`` clusters.

    Args:
        members: sample_id, split, label and the unit column of the samples, in the order of the scores.
        scores: p_bad per model, as answered; shape [samples] each. Must hold ``zigong``.
    """
    frame = members.select(["split", "label", unit]).to_pandas()
    select = (frame["split"] == "select").to_numpy()
    labels = frame["label"].to_numpy()
    published = {model: calibrated(fit_calibration(p[select], labels[select]), p) for model, p in scores.items()}
    thresholds = {model: best_mcc_threshold(labels[select], p[select]) for model, p in published.items()}
    figures = [
        Figure(model_id=m, split="select", metric="threshold", value=t, low=None, high=None, samples=int(select.sum()))
        for m, t in thresholds.items()
    ]
    for split in splits:
        chosen = (frame["split"] == split).to_numpy()
        if chosen.any():
            figures += _split_figures(split, frame[chosen], chosen, published, thresholds, unit, settings, seed)
    return figures


def _split_figures(
    split: str,
    frame: pd.DataFrame,
    chosen: NDArray[np.bool_],
    scores: Mapping[str, Floats],
    thresholds: Mapping[str, float],
    unit: str,
    settings: Evaluation,
    seed: int,
) -> list[Figure]:
    labels = frame["label"].to_numpy()
    found = clustered_bootstrap(
        labels,
        {model: p[chosen] for model, p in scores.items()},
        frame[unit].to_numpy(),
        replicates=settings.bootstrap,
        confidence=settings.confidence,
        seed=seed,
        reference=FINAL,
        thresholds=thresholds,
    )
    intervals = {**found.figures, "auc_lead_of_zigong": found.auc_differences}
    figures = [
        Figure(model_id=m, split=split, metric=name, value=i.value, low=i.low, high=i.high, samples=len(labels))
        for name, models in intervals.items()
        for m, i in models.items()
    ]
    return figures + [
        Figure(
            model_id=m,
            split=split,
            metric=name,
            value=measure(labels, p[chosen]),
            low=None,
            high=None,
            samples=len(labels),
        )
        for m, p in scores.items()
        for name, measure in POINT_METRICS.items()
    ]


def flat_figures(figures: Sequence[Figure], *, split: str, name: str) -> dict[str, float]:
    """Figures of one split as ``NAME.metric.MODEL``, with ``_low`` and ``_high`` where there is an interval."""
    flat: dict[str, float] = {}
    for figure in figures:
        if figure.split != split:
            continue
        flat[f"{name}.{figure.metric}.{figure.model_id}"] = figure.value
        if figure.low is not None and figure.high is not None:
            flat[f"{name}.{figure.metric}_low.{figure.model_id}"] = figure.low
            flat[f"{name}.{figure.metric}_high.{figure.model_id}"] = figure.high
    return flat
