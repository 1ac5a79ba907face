"""One complete run on real engines: no row is lost, figures exist, and the same recipe gives the same rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from schemas.contracts import table_contract
from tests.support.finished import FinishedRun, finish
from zigong.cli import app
from zigong.errors import ConfigError
from zigong.evaluation.training_study.figures import study_table
from zigong.evaluation.training_study.finished import finished_answers, groups_of
from zigong.lakehouse.audit_log import audit_entries
from zigong.lakehouse.tables import arrow_pinned
from zigong.lakehouse.verify_audit_log import verify_audit_log
from zigong.pipeline import STEPS
from zigong.runs.handover import GateDecision, TrainingMix
from zigong.runs.job import Job
from zigong.runs.steps import steps_of

MODELS = ("zigong", "lightgbm", "lightgbm_no_profile", "logistic", "scorecard", "last_status", "majority")
TABLES = sorted({table for step in STEPS for table in step.writes} - {"verdicts"})
PER_RUN = {"releases"}  # tables whose rows name the run


@pytest.fixture(scope="session")
def second_run(tiny_run: FinishedRun) -> FinishedRun:
    """The same recipe in the same lakehouse under a new run id; no score is reused."""
    return finish(Path(tiny_run.root), "second", "engine.rescore=all")


def rows_of(run: FinishedRun, table: str) -> pa.Table:
    version = run.run.manifest()["tables"][table]
    return arrow_pinned(run.paths, table, version)


def digest(table: pa.Table) -> tuple[int, int]:
    """Rows and an order-independent checksum."""
    texts = (json.dumps(row, sort_keys=True, default=str) for row in table.to_pylist())
    return table.num_rows, sum(int(hashlib.sha256(text.encode()).hexdigest(), 16) for text in texts)


@pytest.mark.parametrize("table", TABLES)
def test_every_step_wrote_its_table_in_the_columns_of_its_contract(tiny_run: FinishedRun, table: str) -> None:
    rows = rows_of(tiny_run, table)
    assert rows.num_rows > 0
    assert set(rows.column_names) == set(table_contract(table).column_names)


def test_rows_in_are_published_quarantined_or_dropped_with_a_reason(tiny_run: FinishedRun) -> None:
    counts_of = {
        name: counts
        for step in STEPS
        if (outcome := tiny_run.run.outcome(step.name)) is not None
        for name, counts in outcome.tables.items()
    }
    assert counts_of.keys() >= set(TABLES)
    for name, counts in counts_of.items():
        out = counts["published"] + counts["quarantined"] + sum(counts["dropped"].values())
        assert counts["rows_in"] == out, name
    assert counts_of["behavior_events"]["dropped"]["duplicate"] > 0


def test_the_audit_log_agrees_with_every_commit_and_holds_the_decision_of_the_gate(tiny_run: FinishedRun) -> None:
    assert verify_audit_log(tiny_run.paths).broken is None
    entries = [entry for entry in audit_entries(tiny_run.paths) if entry.run_id == tiny_run.run_id]
    assert {entry.table_name for entry in entries if entry.action == "published"} >= set(TABLES)
    decisions = [(entry.action, entry.version) for entry in entries if entry.action in {"released", "refused"}]
    assert decisions == [(tiny_run.run.take(GateDecision).decision, tiny_run.run.pinned_version("releases"))]


def test_the_metrics_hold_every_model_with_intervals_and_every_table(tiny_run: FinishedRun) -> None:
    figures = tiny_run.run.metrics()
    for model in MODELS:
        for metric in ("auc", "ks"):
            low, value, high = (figures[f"oot.{metric}{end}.{model}"] for end in ("_low", "", "_high"))
            assert 0 <= low <= high <= 1
            assert 0 <= value <= 1
    assert figures["oot.auc.majority"] == 0.5
    for table in TABLES:
        assert figures.keys() >= {f"rows.{table}.{kind}" for kind in ("published", "quarantined", "dropped")}
    assert all(isinstance(value, int | float) for value in figures.values())


@pytest.mark.soak
@pytest.mark.parametrize("table", [table for table in TABLES if table not in PER_RUN])
def test_the_same_recipe_under_a_new_run_id_gives_the_same_rows(
    tiny_run: FinishedRun, second_run: FinishedRun, table: str
) -> None:
    assert digest(rows_of(second_run, table)) == digest(rows_of(tiny_run, table))


@pytest.mark.soak
def test_model_figures_are_equal_on_one_machine(tiny_run: FinishedRun, second_run: FinishedRun) -> None:
    first, second = tiny_run.run.metrics(), second_run.run.metrics()
    measured = [name for name in first if name.startswith(("oot.", "select.", "influence."))]
    assert measured
    assert {name: second[name] for name in measured} == {name: first[name] for name in measured}


@pytest.mark.soak
def test_a_rerun_of_a_known_model_registers_no_second_version(tiny_run: FinishedRun, second_run: FinishedRun) -> None:
    versions = {run.run_id: run for run in (tiny_run, second_run)}
    rows = rows_of(second_run, "releases").to_pylist()
    registered = {row["run_id"]: row["registry_version"] for row in rows if row["run_id"] in versions}
    assert registered == {"first": "1", "second": "1"}


def test_resuming_a_finished_run_changes_nothing(tiny_run: FinishedRun) -> None:
    before = tiny_run.run.manifest()["tables"]
    result = CliRunner().invoke(app, ["run", str(tiny_run.recipe_file), "--run-id", "first"])
    assert result.exit_code == 0, result.output
    assert tiny_run.run.manifest()["tables"] == before
    assert result.output.count("done before") == len(steps_of(tiny_run.run.recipe))
    assert f"gate     {tiny_run.run.take(GateDecision).decision}" in result.output


def test_no_sequence_contains_anything_at_or_after_t(tiny_run: FinishedRun) -> None:
    rows = rows_of(tiny_run, "user_sequences").select(["observation_at", "events", "certificate"]).to_pylist()
    for row in rows:
        assert row["certificate"]["max_known_at"] < row["observation_at"]
        assert all(event["event_at"] < row["observation_at"] for event in row["events"])


def test_no_user_is_in_both_train_and_test_and_every_split_has_samples(tiny_run: FinishedRun) -> None:
    members = rows_of(tiny_run, "dataset_members").to_pandas()
    assert set(members["split"]) == {"train", "test", "target", "select", "oot"}
    by_split = members.groupby("split")["user_id"].agg(set)
    assert not by_split["train"] & by_split["test"]
    assert not by_split["target"] & by_split["select"]
    assert not members["sample_id"].duplicated().any()


def test_the_mix_has_30_percent_by_influence(tiny_run: FinishedRun) -> None:
    rows = rows_of(tiny_run, "training_mix").to_pandas()
    mix = rows[rows["mix_id"] == tiny_run.run.take(TrainingMix).mix_id]
    pool = rows_of(tiny_run, "influence_scores").num_rows
    assert len(mix) == pool // 2
    assert (mix["share"] == "influence").sum() == round(0.3 * len(mix))


def test_the_run_folder_contains_the_tables_of_scores_and_selection(tiny_run: FinishedRun) -> None:
    tables = tiny_run.run.small_tables()
    assert tables.keys() >= {"influence_settings", "influence_agreement", "selection_groups", "selection_scores"}
    groups = {row["group"]: int(row["samples"]) for row in tables["selection_groups"]}
    assert groups["mix"] == groups["mix: influence"] + groups["mix: random"] == groups["pool"] // 2
    assert {row["decay"] for row in tables["influence_settings"]} == {"checkpoint", "sample", "none"}


def test_the_report_is_one_file_that_names_every_step_and_table(tiny_run: FinishedRun, spark: SparkSession) -> None:
    answer = CliRunner().invoke(app, ["report", tiny_run.run_id, "--root", tiny_run.root])
    assert answer.exit_code == 0, answer.output
    page = (tiny_run.run.folder / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in (*(step.name for step in steps_of(tiny_run.run.recipe)), *TABLES, *MODELS))
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_runs_are_listed_with_outcome_and_the_path_of_their_metrics(tiny_run: FinishedRun) -> None:
    answer = CliRunner().invoke(app, ["runs", "ls", "--json", "--root", tiny_run.root])
    (row,) = [row for row in json.loads(answer.stdout) if row["run_id"] == tiny_run.run_id]
    assert row["outcome"] == "ok"
    assert Path(row["metrics"]).is_file()


def test_finished_runs_are_compared_by_their_settings(tiny_run: FinishedRun) -> None:
    job = Job(step="study", run=tiny_run.run, paths=tiny_run.paths)
    held_out, answered = finished_answers({"as it is": [job, job], "the same": [job, job]}, "card")
    table = study_table(held_out, answered, choose_on="select", resamples=10, confidence=0.95, seed=1)
    oot = table[table["split"] == "oot"].set_index("settings")
    metrics = tiny_run.run.metrics()
    for figure in ("auc", "log_loss"):
        assert oot[figure]["the same"] == pytest.approx(metrics[f"oot.{figure}.zigong"])
    assert set(oot["lead"]) == {0.0}
    assert list(oot["trainings"]) == [2, 2, 2]  # the third row: seeds averaged
    with pytest.raises(ConfigError, match="has no model nothing"):
        finished_answers({"as it is": [job]}, "nothing")


@pytest.mark.parametrize("groups", [["a=1"], ["a=1", "b"], ["a=1,2", "b=3"], ["a=1", "a=2"], ["=1", "b=2"]])
def test_groups_of_runs_have_a_name_each_and_equally_many_seeds(groups: list[str]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        groups_of(groups)
    assert groups_of(["a=1,2", "b = 2=3,4"]) == {"a": ["1", "2"], "b ": [" 2=3", "4"]}
