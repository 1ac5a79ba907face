"""Collects the report of a run from its folder and the tables."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from zigong.dataset.members import final_split
from zigong.evaluation.bootstrap import Interval
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.measured import Measured, measured_in
from zigong.evaluation.metrics import INTERVAL_METRICS, POINT_METRICS
from zigong.instructions.tasks import main_task
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.replayed import refused_rows
from zigong.lakehouse.verdicts import verdicts_of
from zigong.quality.data_docs import build_docs
from zigong.quality.suite import open_context
from zigong.release.briefing import question_of
from zigong.release.scaling import card_scores
from zigong.report.run_report import (
    DataQuality,
    Diagnostic,
    HeldOut,
    InfluenceSection,
    ModelRow,
    QuarantineRow,
    Reproduce,
    RunReport,
    SelectionGroup,
    SmallTable,
    SplitResult,
    SplitRow,
    StepRow,
    TableRow,
    Verdict,
    VerdictRow,
)
from zigong.report.write_report import write_report
from zigong.runs.handover import Dataset, FinalModel, GateDecision, InfluenceScores, TrainingMix, texts
from zigong.runs.job import Job
from zigong.runs.run import Outcome, Run
from zigong.runs.runner import steps_of

PACKAGES = (
    "pyspark",
    "delta-spark",
    "ray",
    "torch",
    "transformers",
    "peft",
    "great-expectations",
    "mlflow",
    "lightgbm",
)


def write_run_report(run: Run) -> Path:
    """Writes ``report.html`` into the run's folder; a partial run is reported as far as it got."""
    return write_report(collect(run), run.folder / "report.html")


def collect(run: Run) -> RunReport:
    """The content of a report, read from pinned versions."""
    job = Job(step="report", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))
    manifest, dataset, mix = run.manifest(), run.find(Dataset), run.find(TrainingMix)
    outcomes = [outcome for step in steps_of(run.recipe) if (outcome := run.outcome(step.name))]
    members = _members(job) if dataset is not None else None
    main = members[members["task"] == main_task(run.recipe)] if members is not None else None
    recorded = verdicts_of(job.paths, run.run_id)
    verdicts = {row["table_name"]: str(row["verdict"]) for row in recorded}
    measured = _measured(job)
    return RunReport(
        recipe=run.recipe.name,
        run_id=run.run_id,
        verdict=_verdict(run, outcomes),
        started_at=datetime.fromisoformat(manifest["created_at"]),
        finished_at=_finished(outcomes),
        steps=_steps(run),
        question=question_of(run.recipe),
        facts=dict(sorted(item for value in run.values() for item in texts(value).items())),
        tables=tuple(
            _table(name, counts, verdicts.get(name, ""))
            for outcome in outcomes
            for name, counts in outcome.tables.items()
        ),
        quality=_quality(job, recorded),
        splits=_splits(main) if main is not None else (),
        results=_results(measured, main, final_split(run.recipe)),
        held_out=_held_out(job, members, measured) if measured is not None and members is not None else None,
        influence=_influence(job, members, mix) if mix is not None and members is not None else None,
        reproduce=Reproduce(
            command=f"zigong run {run.folder / 'recipe.json'}",
            seed=run.recipe.seed,
            digest=manifest["recipe_digest"],
            versions={name: version(name) for name in PACKAGES},
            pins={table: str(number) for table, number in manifest["tables"].items()},
        ),
    )


def _verdict(run: Run, outcomes: list[Outcome]) -> Verdict:
    if any(outcome.code for outcome in outcomes):
        return "blocked" if any(outcome.kind == "data" for outcome in outcomes) else "failed"
    if len(outcomes) < len(steps_of(run.recipe)):
        return "running"
    gate = run.find(GateDecision)
    return gate.decision if gate is not None else "completed"


def _finished(outcomes: list[Outcome]) -> datetime | None:
    ends = [datetime.fromisoformat(item.started_at) + timedelta(seconds=item.seconds) for item in outcomes]
    return max(ends, default=None)


def _steps(run: Run) -> tuple[StepRow, ...]:
    rows = []
    for step in steps_of(run.recipe):
        outcome = run.outcome(step.name)
        if outcome is None:
            rows.append(StepRow(name=step.name, status="pending"))
        elif outcome.code:
            note = f"{outcome.message} Next: {outcome.action}"
            rows.append(StepRow(name=step.name, status="failed", seconds=outcome.seconds, note=note))
        else:
            note = ", ".join(f"{name}: {counts['published']:,}" for name, counts in outcome.tables.items())
            rows.append(StepRow(name=step.name, status="succeeded", seconds=outcome.seconds, note=note))
    return tuple(rows)


def _table(name: str, counts: dict[str, Any], verdict: str) -> TableRow:
    return TableRow(
        table=name,
        rows_in=counts["rows_in"],
        published=counts["published"],
        quarantined=counts["quarantined"],
        dropped=counts["dropped"],
        verdict=verdict,
        version="" if counts["version"] is None else str(counts["version"]),
    )


def _quality(job: Job, recorded: list[dict[str, Any]]) -> DataQuality:
    suites = job.run.folder / "quality"
    docs = build_docs(open_context(suites)) if suites.is_dir() else None
    refused = [item for item in refused_rows(job.paths) if item.run_id == job.run.run_id]
    return DataQuality(
        verdicts=tuple(_verdict_row(row) for row in recorded),
        quarantine=tuple(QuarantineRow(table=item.table, rule=item.rule, rows=item.rows) for item in refused),
        failures=tuple(f"{row['table_name']}: {text}" for row in recorded for text in row["failures"]),
        warnings=tuple(f"{row['table_name']}: {text}" for row in recorded for text in row["warnings"]),
        data_docs=str(docs.relative_to(job.run.folder)) if docs else None,
    )


def _verdict_row(recorded: dict[str, Any]) -> VerdictRow:
    judged = [item for item in recorded["results"] if item["observed"] is not None or not item["passed"]]
    broken = [item["severity"] for item in judged if not item["passed"]]
    return VerdictRow(
        table=recorded["table_name"],
        verdict=recorded["verdict"],
        held=len(judged) - len(broken),
        warned=broken.count("warn"),
        blocked=len(broken) - broken.count("warn"),
        not_judged=len(recorded["results"]) - len(judged),
    )


def _members(job: Job) -> pd.DataFrame:
    splits = ["train", "test", "target", "select", "oot"]
    wanted = ["sample_id", "split", "task", "observation_date", "label", job.recipe.split.unit]
    members: pd.DataFrame = job.sample_source().members(splits).select(wanted).to_pandas()
    return members.rename(columns={job.recipe.split.unit: "unit"})


def _splits(members: pd.DataFrame) -> tuple[SplitRow, ...]:
    order = ["train", "test", "target", "select", "oot"]
    return tuple(
        SplitRow(
            split=name,
            first=part["observation_date"].min(),
            last=part["observation_date"].max(),
            samples=len(part),
            bad=int(part["label"].sum()),
            persons=int(part["unit"].nunique()),
        )
        for name in order
        if len(part := members[members["split"] == name])
    )


def _measured(job: Job) -> Measured | None:
    """The figures of the run's model; None before they are published."""
    dataset, final = job.run.find(Dataset), job.run.find(FinalModel)
    if dataset is None or final is None or job.run.pinned_version("evaluation_metrics") is None:
        return None
    return measured_in(job, dataset_id=dataset.dataset_id, model_id=final.model_id)


def _results(measured: Measured | None, main: pd.DataFrame | None, split: str) -> tuple[SplitResult, ...]:
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
                model=measured.shown(model),
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


def _further(measured: Measured, model: str, split: str) -> dict[str, Interval | float]:
    """Metrics without a column of their own in the report; a run of an earlier version may lack some."""
    own = {column.name for column in fields(ModelRow)}
    return {
        name: measured.interval(model, split, name) if name in INTERVAL_METRICS else measured.value(model, split, name)
        for name in (*INTERVAL_METRICS, *POINT_METRICS)
        if name not in own and (model, split, name) in measured.figures
    }


def _held_out(job: Job, members: pd.DataFrame, measured: Measured) -> HeldOut:
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
        scores={measured.shown(model): wide[model].to_numpy()[shown] for model in models},
        p_calibrated=p_calibrated,
        card_scores=card_scores(p_calibrated, job.recipe.card),
    )


def _influence(job: Job, members: pd.DataFrame, mix: TrainingMix) -> InfluenceSection:
    dataset, made = job.run.take(Dataset), job.run.take(InfluenceScores)
    chosen = (ds.field("dataset_id") == dataset.dataset_id) & (ds.field("scorer_id") == made.scorer_id)
    scores = job.arrow("influence_scores", ["sample_id", "score"], where=chosen).to_pandas()
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
        tables=_small_tables(job.run),
        settings={name: str(value) for name, value in settings.items()},
    )


def _small_tables(run: Run) -> tuple[SmallTable, ...]:
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
    )
