"""The sections of a report about samples and models: splits, results, groups of clients, held-out answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

import pandas as pd
import pyarrow.dataset as ds

from zigong.dataset.members import SPLITS, final_split
from zigong.evaluation.bootstrap import Interval
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.held_out import Figure
from zigong.evaluation.measured import ModelFigures
from zigong.evaluation.metrics import POINT_METRICS
from zigong.evaluation.resampled import INTERVAL_METRICS
from zigong.evaluation.slice_figures import SHARE
from zigong.release.scaling import card_scores
from zigong.report.run_report import HeldOut, ModelRow, SliceRow, Slices, SplitResult, SplitRow
from zigong.runs.handover import Dataset
from zigong.runs.job import Job


def members(job: Job) -> pd.DataFrame:
    """The members of the run's dataset, with split, task, date, label and split unit."""
    wanted = ["sample_id", "split", "task", "observation_date", "label", job.recipe.split.unit]
    members: pd.DataFrame = job.sample_source().members(SPLITS).select(wanted).to_pandas()
    return members.rename(columns={job.recipe.split.unit: "unit"})


def splits(members: pd.DataFrame, figures: Mapping[str, float]) -> tuple[SplitRow, ...]:
    """Samples, bad rate and dates of every split that has members, and what it excludes by the run's figures."""
    return tuple(
        SplitRow(
            split=name,
            first=part["observation_date"].min(),
            last=part["observation_date"].max(),
            samples=len(part),
            bad=int(part["label"].sum()),
            persons=int(part["unit"].nunique()),
            indeterminate=_whole(figures.get(f"dataset.indeterminate.{name}")),
        )
        for name in SPLITS
        if len(part := members[members["split"] == name])
    )


def _whole(figure: float | None) -> int | None:
    return None if figure is None else int(figure)


def results(measured: ModelFigures | None, main: pd.DataFrame | None, split: str) -> tuple[SplitResult, ...]:
    """The result on the final split; nothing before the run's model is measured."""
    if measured is None or main is None:
        return ()
    labels = main[main["split"] == split]["label"]
    result = SplitResult(
        split=split,
        samples=len(labels),
        bad=int(labels.sum()),
        rows=tuple(
            ModelRow(
                model=measured.display_name(model),
                auc=measured.interval(model, split, "auc"),
                ks=measured.interval(model, split, "ks"),
                mcc=measured.interval(model, split, "mcc"),
                difference=measured.lead(model, split),
                brier=measured.value(model, split, "brier"),
                log_loss=measured.value(model, split, "log_loss"),
                further=_further(measured, model, split),
            )
            for model in measured.models(split)
        ),
    )
    return (result,)


def _further(measured: ModelFigures, model: str, split: str) -> dict[str, Interval | float]:
    """Metrics without a column of their own in the report; a run of an earlier version may lack some."""
    own = {column.name for column in fields(ModelRow)}
    return {
        name: measured.interval(model, split, name) if name in INTERVAL_METRICS else measured.value(model, split, name)
        for name in (*INTERVAL_METRICS, *POINT_METRICS)
        if name not in own and (model, split, name) in measured.figures
    }


def held_out(job: Job, members: pd.DataFrame, measured: ModelFigures) -> HeldOut:
    """Labels, scores and calibrated probabilities of the final split, for the charts."""
    split, models = final_split(job.recipe), measured.models(final_split(job.recipe))
    chosen = (
        (ds.field("dataset_id") == job.run.take(Dataset).dataset_id)
        & ds.field("split").isin([split, "select"])
        & ds.field("model_id").isin(list(models))
    )
    answers = job.arrow("evaluation_answers", ["sample_id", "model_id", "p_bad"], where=chosen).to_pandas()
    wide = answers.pivot(index="sample_id", columns="model_id", values="p_bad")
    truth = members.set_index("sample_id").loc[wide.index]
    select, shown = (truth["split"] == "select").to_numpy(), (truth["split"] == split).to_numpy()
    labels, own = truth["label"].to_numpy(), wide[measured.model_id].to_numpy()
    p_calibrated = calibrated(fit_calibration(own[select], labels[select]), own[shown])
    return HeldOut(
        split=split,
        labels=labels[shown],
        scores={measured.display_name(model): wide[model].to_numpy()[shown] for model in models},
        p_calibrated=p_calibrated,
        card_scores=card_scores(p_calibrated, job.recipe.card),
    )


def slices(measured: ModelFigures, split: str) -> Slices | None:
    """AUC by groups of clients of the final model and of the other one that they were measured for."""
    found = [item for item in measured.slices if item.split == split]
    others = {item.model_id for item in found if item.metric == "auc"} - {measured.model_id}
    if len(others) != 1:
        return None
    (other,) = others
    auc = {(item.slice, item.model_id): item for item in found if item.metric == "auc"}
    rows = [
        SliceRow(
            name=item.slice,
            share=item.value,
            own=_interval(auc.get((item.slice, measured.model_id))),
            other=_interval(auc.get((item.slice, other))),
        )
        for item in found
        if item.metric == SHARE and item.model_id == measured.model_id
    ]
    return Slices(other_model=measured.display_name(other), rows=tuple(sorted(rows, key=_in_order)))


def _in_order(row: SliceRow) -> tuple[str, bool, list[int], str]:
    """Sorts groups of one attribute by the numbers in their names, ``under`` first: 6 to 11 stands before 12 to 23."""
    attribute, _, group = row.name.partition("=")
    return attribute, not group.startswith("under"), [int(number) for number in re.findall(r"\d+", group)], group


def _interval(figure: Figure | None) -> Interval | None:
    if figure is None or figure.low is None or figure.high is None:
        return None
    return Interval(value=figure.value, low=figure.low, high=figure.high)
