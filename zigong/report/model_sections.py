"""The sections of a report about samples and models: splits, results, held-out answers, influence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from zigong.dataset.members import SPLITS, final_split
from zigong.evaluation.bootstrap import Interval
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.measured import ModelFigures
from zigong.evaluation.metrics import POINT_METRICS
from zigong.evaluation.resampled import INTERVAL_METRICS
from zigong.release.scaling import card_scores
from zigong.report.run_report import (
    Diagnostic,
    HeldOut,
    InfluenceSection,
    ModelRow,
    SelectionGroup,
    SmallTable,
    SplitResult,
    SplitRow,
)
from zigong.runs.handover import Dataset, InfluenceScores, TrainingMix
from zigong.runs.job import Job
from zigong.runs.run import Run


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


def influence(job: Job, members: pd.DataFrame, mix: TrainingMix) -> InfluenceSection:
    """Settings, diagnostics and what the mix selected."""
    dataset, made = job.run.take(Dataset), job.run.take(InfluenceScores)
    chosen = (ds.field("dataset_id") == dataset.dataset_id) & (ds.field("scorer_id") == made.scorer_id)
    scores = job.arrow("influence_scores", ["sample_id", "score", "loss"], where=chosen).to_pandas()
    mixed = job.arrow("training_mix", ["sample_id", "share"], where=ds.field("mix_id") == mix.mix_id).to_pandas()
    pool = members[members["split"] == "train"].merge(scores, on="sample_id", how="left")
    shares = pool.merge(mixed, on="sample_id", how="inner")
    groups = {"pool": pool, **{f"mix: {name}": part for name, part in shares.groupby("share")}}
    figures = job.run.metrics()
    settings = job.recipe.influence.model_dump(mode="json", exclude={"batch_tokens"})
    scored = pool.dropna(subset=["score"])
    return InfluenceSection(
        labels=scored["label"].to_numpy(),
        scores=scored["score"].to_numpy(dtype=np.float64),
        groups=tuple(_group(name, part) for name, part in groups.items()),
        diagnostics=(
            *(Diagnostic(name="Warning", value=text, warns=True) for text in made.warnings),
            *(
                Diagnostic(
                    name=name.removeprefix("influence."),
                    value=f"{value:+.3f}" if isinstance(value, float) else str(value),
                )
                for name, value in figures.items()
                if name.startswith("influence.")
            ),
        ),
        tables=small_tables(job.run),
        settings={name: str(value) for name, value in settings.items()},
    )


def small_tables(run: Run) -> tuple[SmallTable, ...]:
    """The tables of scores and selection, with rounded numbers."""
    return tuple(
        SmallTable(
            name=name.replace("_", " "),
            columns=tuple(rows[0]),
            rows=tuple(tuple(_shortened(value) for value in row.values()) for row in rows),
        )
        for name, rows in run.small_tables().items()
        if rows
    )


def _shortened(value: str) -> str:
    try:
        return f"{float(value):.4g}" if "." in value or "e" in value else value
    except ValueError:
        return value


def _group(name: str, part: pd.DataFrame) -> SelectionGroup:
    return SelectionGroup(
        name=name,
        samples=len(part),
        bad_rate=float(part["label"].mean()),
        persons=int(part["unit"].nunique()),
        mean_score=float(part["score"].mean()),
        mean_loss=float(part["loss"].mean()),
    )
