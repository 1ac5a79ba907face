"""Figures of all models on the held-out splits, with clustered intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.metrics import POINT_METRICS, best_mcc_threshold
from zigong.recipe import Evaluation

FINAL = "zigong"  # in reports and metrics.json, the others are zigong_HEAD; tables contain model_ids
LEAD = "auc_lead_over_"
WHOLE = "all"  # slice of a figure of a complete split
Floats = NDArray[np.float64]
_SCHEMA = pa.schema(
    [
        ("model_id", pa.string()),
        ("split", pa.string()),
        ("slice", pa.string()),
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
        metric: a name of ``INTERVAL_METRICS`` or ``POINT_METRICS``, or threshold; ``auc_lead_over_OTHER`` is the paired
            difference of AUCs.
        slice: part of the split, such as ``month=2023-06``; ``all`` for the complete split.
    """

    model_id: str
    split: str
    metric: str
    value: float
    low: float | None
    high: float | None
    samples: int
    slice: str = WHOLE


@dataclass(frozen=True, kw_only=True)
class Published:
    """The probabilities of every model as they would be published, and the threshold of each.

    Attributes:
        scores: calibrated p_bad by model_id; shape [samples] each.
        thresholds: calibrated probability with the largest MCC on ``select``, by model_id.
        missed: by model_id, whether it generated none of the choices; shape [samples] each.
    """

    scores: Mapping[str, Floats]
    thresholds: Mapping[str, float]
    missed: Mapping[str, NDArray[np.bool_]]

    @classmethod
    def of(
        cls, members: pa.Table, scores: Mapping[str, Floats], missed: Mapping[str, NDArray[np.bool_]] | None = None
    ) -> Published:
        """Calibrates every model on ``select``, like a released one, and chooses its threshold there.

        Args:
            members: split and label of the samples, in the order of the scores.
            scores: uncalibrated p_bad by model_id; shape [samples] each.
            missed: misses by model_id, of those that can miss.
        """
        select, labels = np.asarray(members["split"]) == "select", np.asarray(members["label"])
        found = {model: calibrated(fit_calibration(p[select], labels[select]), p) for model, p in scores.items()}
        cuts = {model: best_mcc_threshold(labels[select], p[select]) for model, p in found.items()}
        return cls(scores=found, thresholds=cuts, missed=missed or {})

    def where(self, chosen: NDArray[np.bool_], models: Sequence[str] | None = None) -> Published:
        """Some of the samples, and some of the models."""
        named = list(self.scores) if models is None else list(models)
        return Published(
            scores={model: self.scores[model][chosen] for model in named},
            thresholds={model: self.thresholds[model] for model in named},
            missed={model: self.missed[model][chosen] for model in named if model in self.missed},
        )


def held_out_figures(
    members: pa.Table,
    published: Published,
    *,
    final: str,
    splits: Sequence[str],
    unit: str,
    settings: Evaluation,
    seed: int,
) -> list[Figure]:
    """Every metric of every model on every split; metrics of resamples have intervals.

    Intervals come from resampling the clusters of ``unit``.

    Args:
        members: split, label and the unit column of the samples, in the order of the scores.
        published: the models.
        final: the evaluated model, whose leads over the others are computed.
        splits: splits to measure.
        unit: column of the clusters.
        settings: number of resamples and confidence.
        seed: seed of the resamples.
    """
    split, labels, clusters = (np.asarray(members[name]) for name in ("split", "label", unit))
    size = int(np.sum(split == "select"))
    figures = [
        Figure(model_id=model, split="select", metric="threshold", value=cut, low=None, high=None, samples=size)
        for model, cut in published.thresholds.items()
    ]
    for name in splits:
        chosen = split == name
        if chosen.any():
            figures += part_figures(
                labels[chosen],
                published.where(chosen),
                clusters[chosen],
                split=name,
                final=final,
                settings=settings,
                seed=seed,
            )
    return figures


def part_figures(
    labels: NDArray[np.integer],
    published: Published,
    clusters: NDArray[np.generic],
    *,
    split: str,
    final: str,
    settings: Evaluation,
    seed: int,
    slice_name: str = WHOLE,
) -> list[Figure]:
    """Every metric of every model on one split or slice; see :func:`held_out_figures`."""
    found = clustered_bootstrap(
        labels,
        published.scores,
        clusters,
        replicates=settings.bootstrap,
        confidence=settings.confidence,
        seed=seed,
        reference=final,
        thresholds=published.thresholds,
        missed=published.missed,
    )
    here: dict[str, Any] = {"split": split, "samples": len(labels), "slice": slice_name}
    intervals = [
        *((model, name, i) for name, models in found.figures.items() for model, i in models.items()),
        *((final, f"{LEAD}{other}", i) for other, i in found.auc_differences.items()),
    ]
    return [
        *(Figure(model_id=m, metric=name, value=i.value, low=i.low, high=i.high, **here) for m, name, i in intervals),
        *(
            Figure(model_id=m, metric=name, value=measure(labels, p), low=None, high=None, **here)
            for m, p in published.scores.items()
            for name, measure in POINT_METRICS.items()
        ),
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


def shown_names(card: str, heads: Mapping[str, str]) -> dict[str, str]:
    """Names in reports and metrics.json of a card and of the models that were measured with it.

    Args:
        card: model_id of the card.
        heads: model_id of the language model alone, ``lm``, and of the other cards of the run, by head.
    """
    return {model_id: f"{FINAL}_{head}" for head, model_id in heads.items()} | {card: FINAL}


def exported(
    figures: Sequence[Figure], members: pa.Table, *, names: Mapping[str, str], held_out: str
) -> dict[str, float]:
    """Figures for metrics.json.

    A source with one T has no out-of-time split: its held-out users are also exported under the name ``oot``.

    Args:
        figures: figures of the dataset.
        members: members of all splits.
        names: other names of some models, by model_id.
        held_out: the split on which the result is reported.
    """
    splits = {split: split for split in (held_out, "select", "test")} | {"oot": held_out}
    labels = members.filter(pc.equal(members["split"], held_out))["label"]
    flat: dict[str, float] = {"oot.samples": len(labels), "oot.bad": int(pc.sum(labels).as_py())}
    for name, split in splits.items():
        flat |= flat_figures(figures, names=names, split=split, name=name)
    return flat


def flat_figures(figures: Iterable[Figure], *, names: Mapping[str, str], split: str, name: str) -> dict[str, float]:
    """Figures of one complete split for metrics.json: ``NAME.metric.MODEL``, with ``_low`` and ``_high`` for intervals.

    The lead of the evaluated model over another is ``NAME.auc_lead_of_zigong.OTHER``.

    Args:
        figures: figures of one evaluated model and those that it is compared with.
        names: other names of some models, by model_id.
        split: the split.
        name: its name in metrics.json.
    """
    flat: dict[str, float] = {}
    for figure in figures:
        if figure.split != split or figure.slice != WHOLE:
            continue
        metric, model = figure.metric, figure.model_id
        if metric.startswith(LEAD):
            metric, model = f"auc_lead_of_{FINAL}", metric.removeprefix(LEAD)
        shown = names.get(model, model)
        flat[f"{name}.{metric}.{shown}"] = figure.value
        if figure.low is not None and figure.high is not None:
            flat[f"{name}.{metric}_low.{shown}"] = figure.low
            flat[f"{name}.{metric}_high.{shown}"] = figure.high
    return flat
