"""Figures of all models on the held-out splits, with clustered intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.metrics import POINT_METRICS, best_mcc_threshold
from zigong.recipe import Evaluation

FINAL = "zigong"  # name of the model of a run in reports and metrics.json; tables contain its model_id
LEAD = "auc_lead_over_"
Floats = NDArray[np.float64]
_SCHEMA = pa.schema(
    [
        ("model_id", pa.string()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("samples", pa.int32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure of one model on one split.

    Attributes:
        metric: auc, ks, mcc, brier, log_loss or threshold; ``auc_lead_over_OTHER`` is the paired difference of AUCs.
    """

    model_id: str
    split: str
    metric: str
    value: float
    low: float | None
    high: float | None
    samples: int


def held_out_figures(
    members: pa.Table,
    scores: Mapping[str, Floats],
    *,
    final: str,
    splits: Sequence[str],
    unit: str,
    settings: Evaluation,
    seed: int,
) -> list[Figure]:
    """Every metric of every model on every split; metrics of resamples have intervals.

    Every model is calibrated on ``select``, like a released one, and its threshold is chosen there on the calibrated
    probabilities; both apply to all splits. Intervals come from resampling the clusters of ``unit``.

    Args:
        members: sample_id, split, label and the unit column of the samples, in the order of the scores.
        scores: uncalibrated p_bad by model_id; shape [samples] each.
        final: the evaluated model, whose leads over the others are computed.
        splits: splits to measure.
        unit: column of the clusters.
        settings: number of resamples and confidence.
        seed: seed of the resamples.
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
            figures += _split_figures(split, frame[chosen], chosen, published, thresholds, final, unit, settings, seed)
    return figures


def _split_figures(
    split: str,
    frame: pd.DataFrame,
    chosen: NDArray[np.bool_],
    scores: Mapping[str, Floats],
    thresholds: Mapping[str, float],
    final: str,
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
        reference=final,
        thresholds=thresholds,
    )
    intervals = [
        *((model, name, i) for name, models in found.figures.items() for model, i in models.items()),
        *((final, f"{LEAD}{other}", i) for other, i in found.auc_differences.items()),
    ]
    figures = [
        Figure(model_id=m, split=split, metric=name, value=i.value, low=i.low, high=i.high, samples=len(labels))
        for m, name, i in intervals
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


def metric_rows(figures: Sequence[Figure], dataset_id: str) -> tuple[pa.Table, str]:
    """Rows of evaluation_metrics, and the predicate of those they replace: only of the measured models."""
    rows = pa.Table.from_pylist([asdict(figure) for figure in figures], schema=_SCHEMA)
    return in_dataset(rows, dataset_id)


def in_dataset(rows: pa.Table, dataset_id: str) -> tuple[pa.Table, str]:
    """Rows of models with their dataset, and the predicate of these models in the dataset."""
    models = ", ".join(f"'{model}'" for model in sorted(rows["model_id"].unique().to_pylist()))
    named = rows.append_column("dataset_id", pa.repeat(dataset_id, len(rows)))
    return named, f"dataset_id = '{dataset_id}' AND model_id IN ({models})"


def exported(figures: Sequence[Figure], members: pa.Table, *, final: str, held_out: str) -> dict[str, float]:
    """Figures for metrics.json.

    A source with one T has no out-of-time split: its held-out users are also exported under the name ``oot``.

    Args:
        figures: figures of the dataset.
        members: members of all splits.
        final: the evaluated model.
        held_out: the split on which the result is reported.
    """
    names = {split: split for split in (held_out, "select", "test")} | {"oot": held_out}
    labels = members.filter(pc.equal(members["split"], held_out))["label"]
    flat: dict[str, float] = {"oot.samples": len(labels), "oot.bad": int(pc.sum(labels).as_py())}
    for name, split in names.items():
        flat |= flat_figures(figures, final=final, split=split, name=name)
    return flat


def flat_figures(figures: Iterable[Figure], *, final: str, split: str, name: str) -> dict[str, float]:
    """Figures of one split for metrics.json: ``NAME.metric.MODEL``, with ``_low`` and ``_high`` for intervals.

    The final model is named ``zigong``; its lead over a baseline is ``NAME.auc_lead_of_zigong.BASELINE``.
    """
    flat: dict[str, float] = {}
    for figure in figures:
        if figure.split != split:
            continue
        metric, model = figure.metric, FINAL if figure.model_id == final else figure.model_id
        if metric.startswith(LEAD):
            metric, model = f"auc_lead_of_{FINAL}", metric.removeprefix(LEAD)
        flat[f"{name}.{metric}.{model}"] = figure.value
        if figure.low is not None and figure.high is not None:
            flat[f"{name}.{metric}_low.{model}"] = figure.low
            flat[f"{name}.{metric}_high.{model}"] = figure.high
    return flat
