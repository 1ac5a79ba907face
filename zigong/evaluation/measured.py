"""Figures of one evaluated model and its baselines, read back from evaluation_metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import pyarrow as pa
import pyarrow.dataset as ds

from zigong.errors import DataError
from zigong.evaluation.bootstrap import Interval
from zigong.evaluation.held_out import FINAL, LEAD, WHOLE, Figure, shown_names
from zigong.runs.card_values import BoostedCard, EvaluatedCard, FusedCard, JointModel
from zigong.runs.handover import Dataset, FinalModel
from zigong.runs.job import Job
from zigong.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """Figures of an evaluation on one dataset.

    Attributes:
        model_id: the evaluated model.
        figures: figures of complete splits by model, split and metric, only of this model and of the models it was
            compared with.
        slices: figures of parts of a split, of the same models.
        names: other names of some models in reports and metrics.json, by model_id.
    """

    model_id: str
    figures: Mapping[tuple[str, str, str], Figure]
    slices: tuple[Figure, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table, model_id: str, names: Mapping[str, str] | None = None) -> ModelFigures:
        """Reads the figures of a model.

        Args:
            rows: rows of evaluation_metrics, all of one dataset.
            model_id: the model.
            names: other names of some models, by model_id.

        Raises:
            DataError: the model has no figures.
        """
        wanted = [found.name for found in fields(Figure) if found.name in rows.column_names]  # no slices before 3.0.0
        found = [Figure(**row) for row in rows.select(wanted).to_pylist()]
        others = {f.metric.removeprefix(LEAD) for f in found if f.model_id == model_id and f.metric.startswith(LEAD)}
        if not others:
            raise DataError(
                f"evaluation_metrics: expected figures of {model_id}, found those of "
                f"{', '.join(sorted({f.model_id for f in found})) or 'no model'}",
                action="start evaluate_model again with this run id; earlier versions wrote no model_id",
            )
        known = [f for f in found if f.model_id in {model_id, *others}]
        return cls(
            model_id=model_id,
            figures={(f.model_id, f.split, f.metric): f for f in known if f.slice == WHOLE},
            slices=tuple(f for f in known if f.slice != WHOLE),
            names=names or {model_id: FINAL},
        )

    def models(self, split: str) -> tuple[str, ...]:
        """The evaluated model, then the others by descending AUC on a split."""
        found = sorted(model for model, where, metric in self.figures if (where, metric) == (split, "auc"))
        return tuple(sorted(found, key=lambda model: (model != self.model_id, -self.value(model, split, "auc"))))

    def display_name(self, model: str) -> str:
        """The name of a model in reports: ``zigong`` for the evaluated model."""
        return self.names.get(model, model)

    def figure(self, model: str, split: str, metric: str) -> Figure:
        """One figure.

        Raises:
            DataError: it was not measured.
        """
        found = self.figures.get((model, split, metric))
        if found is None:
            raise DataError(
                f"evaluation_metrics: {metric} of {model} was not measured on {split}",
                action="start evaluate_model again with this run id",
            )
        return found

    def value(self, model: str, split: str, metric: str) -> float:
        """The value of one figure."""
        return self.figure(model, split, metric).value

    def interval(self, model: str, split: str, metric: str) -> Interval:
        """One figure with the ends of its interval.

        Raises:
            DataError: it was not measured, or has no interval.
        """
        figure = self.figure(model, split, metric)
        if figure.low is None or figure.high is None:
            raise DataError(
                f"evaluation_metrics: {metric} of {model} on {split} has no interval",
                action="start evaluate_model again with this run id",
            )
        return Interval(value=figure.value, low=figure.low, high=figure.high)

    def lead(self, other: str, split: str) -> Interval | None:
        """AUC of the evaluated model minus that of another, paired; None for the evaluated model itself."""
        return None if other == self.model_id else self.interval(self.model_id, split, f"{LEAD}{other}")


def evaluated_card(run: Run) -> EvaluatedCard | None:
    """The card that a run has evaluated; None if there is none, or only one of an earlier final model."""
    card, final = run.find(EvaluatedCard), run.find(FinalModel)
    return card if card is not None and final is not None and card.language_model == final.model_id else None


def evaluated_model(run: Run) -> str | None:
    """The model_id of the card that a run has evaluated, before it that of its final model; None without one."""
    card, final = evaluated_card(run), run.find(FinalModel)
    return card.card if card is not None else final.model_id if final is not None else None


def models_by_head(job: Job) -> dict[str, str]:
    """The model_id of each head that the run of a job has trained or fitted, the language model alone first."""
    final, joint = job.find(FinalModel), job.find(JointModel)
    boosted, fused = job.find(BoostedCard), job.find(FusedCard)
    found = {"lm": final, "joint": joint, "boosted": boosted, "fused": fused}
    return {head: model.model_id for head, model in found.items() if model is not None}


def measured_of(job: Job) -> ModelFigures | None:
    """The figures of the run's card; None before they are published.

    Raises:
        DataError: the final model was trained again after its evaluation.
    """
    dataset, card = job.run.find(Dataset), evaluated_model(job.run)
    if dataset is None or card is None or job.run.pinned_version("evaluation_metrics") is None:
        return None
    return measured_in(job, dataset_id=dataset.dataset_id, card=card)


def measured_in(job: Job, *, dataset_id: str, card: str) -> ModelFigures:
    """The figures of a card at the version of evaluation_metrics pinned by the run of a job.

    Args:
        job: a job of the run.
        dataset_id: id of the dataset.
        card: model_id of the card.

    Raises:
        DataError: the card has no figures.
    """
    rows = job.arrow("evaluation_metrics", where=ds.field("dataset_id") == dataset_id)
    return ModelFigures.of(rows, card, shown_names(card, models_by_head(job)))
