"""Collects the report of a run from its folder and the tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zigong.dataset.members import final_split
from zigong.evaluation.further import horizon_lines
from zigong.evaluation.measured import measured_of
from zigong.instructions.tasks import main_task
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.replayed import refused_rows
from zigong.lakehouse.verdicts import verdicts_of
from zigong.quality.data_docs import build_docs
from zigong.quality.suite import open_context
from zigong.release.card_facts import question_of
from zigong.release.points import points_quality
from zigong.report import model_sections
from zigong.report.influence_section import influence
from zigong.report.reasons_section import reasons
from zigong.report.run_report import (
    DataQuality,
    QuarantineRow,
    Reproduce,
    RunReport,
    RunVerdict,
    StepRow,
    TableRow,
    VerdictRow,
)
from zigong.report.study_section import selection_study
from zigong.report.write_report import write_report
from zigong.runs.handover import Dataset, GateDecision, TrainingMix
from zigong.runs.job import Job
from zigong.runs.run import Outcome, Run
from zigong.runs.steps import steps_of
from zigong.runs.stored_values import texts

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
    members = model_sections.members(job) if dataset is not None else None
    main = members[members["task"] == main_task(run.recipe)] if members is not None else None
    recorded = verdicts_of(job.paths, run.run_id)
    verdicts = {row["table_name"]: str(row["verdict"]) for row in recorded}
    measured, small = measured_of(job), run.small_tables()
    return RunReport(
        recipe=run.recipe.name,
        run_id=run.run_id,
        verdict=_verdict(run, outcomes),
        started_at=datetime.fromisoformat(manifest["created_at"]),
        finished_at=_finished(outcomes),
        steps=_steps(run),
        question=question_of(run.recipe),
        facts={
            **dict(sorted(item for value in run.values() for item in texts(value).items())),
            **(horizon_lines(measured.slices, measured.model_id, final_split(run.recipe)) if measured else {}),
        },
        tables=tuple(
            _table(name, counts, verdicts.get(name, ""))
            for outcome in outcomes
            for name, counts in outcome.tables.items()
        ),
        quality=_quality(job, recorded),
        splits=model_sections.splits(main, run.metrics()) if main is not None else (),
        results=model_sections.results(measured, main, final_split(run.recipe)),
        held_out=model_sections.held_out(job, members, measured) if measured and members is not None else None,
        points=points_quality(measured, final_split(run.recipe)) if measured else None,
        slices=model_sections.slices(measured, final_split(run.recipe)) if measured else None,
        influence=influence(job, members) if mix is not None and members is not None else None,
        reasons=reasons(small.get("reasons", [])),
        selection_study=selection_study(small.get("study_selection", []), final_split(run.recipe)),
        decision=run.find(GateDecision),
        reproduce=Reproduce(
            command=f"zigong run {run.folder / 'recipe.json'}",
            seed=run.recipe.seed,
            digest=manifest["recipe_digest"],
            versions={name: version(name) for name in PACKAGES},
            pins={table: str(number) for table, number in manifest["tables"].items()},
        ),
    )


def _verdict(run: Run, outcomes: list[Outcome]) -> RunVerdict:
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
        outside=counts.get("outside", 0),  # runs of earlier versions have no such count
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
    evaluated = [item for item in recorded["results"] if item["observed"] is not None or not item["passed"]]
    broken = [item["severity"] for item in evaluated if not item["passed"]]
    return VerdictRow(
        table=recorded["table_name"],
        verdict=recorded["verdict"],
        held=len(evaluated) - len(broken),
        warned=broken.count("warn"),
        blocked=len(broken) - broken.count("warn"),
        not_evaluated=len(recorded["results"]) - len(evaluated),
    )
