"""Checks of the DAGs inside the schedulers' environment, where test_dags.py starts them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.state import DagRunState, TaskInstanceState

from zigong import commands, pipeline

# A job that ends as given in ending.json: an exit code and, unless it is null, an outcome.
JOB = """
import json, pathlib, sys
ending = json.loads(pathlib.Path("ending.json").read_text())
pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
root = [value.partition("=")[2] for name, value in pairs if value.startswith("lakehouse.root=")][-1]
folder = pathlib.Path(root, "_runs", dict(pairs)["--run-id"], "steps", "build_base")
folder.mkdir(parents=True, exist_ok=True)
if ending["outcome"]:
    (folder / "outcome.json").write_text(json.dumps(ending["outcome"]))
sys.exit(ending["code"])
"""


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def test_all_dags_import_where_no_engine_is_installed(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {"zigong_daily", "zigong_retrain", "zigong_score"}
    assert not {"torch", "ray", "pyspark", "zigong.recipe"} & set(sys.modules)


@pytest.mark.parametrize("schedule", list(pipeline.SCHEDULES))
def test_a_dag_is_the_chain_of_its_schedule(bag: DagBag, schedule: str) -> None:
    dag, names = bag.dags[f"zigong_{schedule}"], pipeline.SCHEDULES[schedule]
    order = [task.task_id for task in dag.topological_sort()]
    assert tuple(order) == names
    for task, following in zip(dag.topological_sort(), [*names[1:], None], strict=True):
        assert task.downstream_task_ids == ({following} if following else set())
        assert 0 < task.retries <= 5
        assert task.retry_exponential_backoff
        assert task.max_retry_delay is not None


def test_the_last_step_that_may_change_the_champion_announces_it(bag: DagBag) -> None:
    announced = {task.task_id: [asset.name for asset in task.outlets] for task in bag.dags["zigong_retrain"].tasks}
    assert {step: names for step, names in announced.items() if names} == {"refit_model": ["zigong_releases"]}


def test_dags_run_one_at_a_time_and_never_catch_up(bag: DagBag) -> None:
    for dag in bag.dags.values():
        assert (dag.max_active_runs, dag.catchup, set(dag.tags)) == (1, False, {"zigong"})
        assert dag.doc_md


def test_retraining_can_be_triggered_by_an_asset(bag: DagBag) -> None:
    text = json.dumps(DagSerialization.to_dict(bag.dags["zigong_retrain"]), default=str)
    assert "zigong_retrain_request" in text


def test_serialized_dags_contain_no_setting_of_the_workers(bag: DagBag) -> None:
    settings = [value for name, value in os.environ.items() if name.startswith("ZIGONG_") and name != "ZIGONG_HOME"]
    assert os.environ["ZIGONG_USER_KEY"] in settings
    for dag in bag.dags.values():
        text = json.dumps(DagSerialization.to_dict(dag), default=str)
        assert not [value for value in settings if value in text]


def test_a_missing_setting_is_an_import_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIGONG_PLAN")
    (message,) = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).import_errors.values()
    assert "environment variable ZIGONG_PLAN is missing" in message


# How a failed command ends


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A release folder whose only job ends as given."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "build_base.py").write_text(JOB, encoding="utf-8")
    plan = json.loads(Path(os.environ["ZIGONG_PLAN"]).read_text(encoding="utf-8"))
    (tmp_path / "plan.json").write_text(json.dumps({**plan, "root": str(tmp_path / "lake")}), encoding="utf-8")
    monkeypatch.setenv("ZIGONG_PLAN", str(tmp_path / "plan.json"))
    monkeypatch.setenv("ZIGONG_HOME", str(tmp_path))
    monkeypatch.setenv("ZIGONG_PYTHON", sys.executable)
    yield tmp_path
    shutil.rmtree(tmp_path)


def end_as(bag: DagBag, home: Path, code: int, outcome: dict[str, Any] | None) -> None:
    (home / "ending.json").write_text(json.dumps({"code": code, "outcome": outcome}), encoding="utf-8")
    run = SimpleNamespace(run_id="asset_triggered__2024-01-01T00:00:00+00:00")
    context = {"dag_run": run, "ti": SimpleNamespace(try_number=1, max_tries=3)}
    bag.dags["zigong_retrain"].get_task("build_base").execute(context)


def outcome_of(kind: str, *, retryable: bool, at: str = "first") -> dict[str, Any]:
    return {"kind": kind, "retryable": retryable, "message": "the reason", "action": "the cure", "started_at": at}


@pytest.mark.parametrize(
    ("code", "outcome", "ends"),
    [
        (1, outcome_of("config", retryable=False), AirflowFailException),
        (1, outcome_of("data", retryable=False), AirflowFailException),
        (1, outcome_of("internal", retryable=False), AirflowFailException),
        (1, outcome_of("conflict", retryable=True), AirflowException),
        (5, outcome_of("infra", retryable=True), AirflowException),
        (4, outcome_of("ok", retryable=False), AirflowException),  # of the process that this one found at work
        (2, None, AirflowFailException),  # refused before there was a run to leave an outcome in
        (137, None, AirflowException),
    ],
)
def test_the_outcome_decides_between_failing_and_retrying(
    bag: DagBag, home: Path, code: int, outcome: dict[str, Any] | None, ends: type[Exception]
) -> None:
    with pytest.raises(AirflowException) as failure:
        end_as(bag, home, code, outcome)
    assert type(failure.value) is ends
    assert f"exit code {code}" in str(failure.value)
    if outcome and outcome["kind"] != "ok":
        assert "the reason" in str(failure.value)
        assert "the cure" in str(failure.value)


def test_the_outcome_of_an_earlier_try_is_ignored(bag: DagBag, home: Path) -> None:
    with pytest.raises(AirflowFailException):
        end_as(bag, home, 1, outcome_of("data", retryable=False))
    with pytest.raises(AirflowException, match="no outcome") as failure:
        end_as(bag, home, 137, None)
    assert type(failure.value) is AirflowException


def test_a_successful_command_succeeds(bag: DagBag, home: Path) -> None:
    end_as(bag, home, 0, outcome_of("ok", retryable=False))
    (ended,) = (home / "lake/_runs").glob("*/steps/build_base/outcome.json")
    assert json.loads(ended.read_text(encoding="utf-8"))["kind"] == "ok"


def test_a_command_gets_no_secret_of_the_worker_but_the_key_its_step_reads(
    bag: DagBag, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = "import json, os; json.dump(dict(os.environ), open('environment.json', 'w'))"
    (home / "jobs/build_base.py").write_text(job, encoding="utf-8")
    monkeypatch.setenv("AIRFLOW_CONN_CORE_BANKING", "postgres://user:password@core")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "wanted")
    monkeypatch.setenv("ZIGONG_PASS_ENV", "MLFLOW_*, OTHER")
    dag_run = SimpleNamespace(run_id="manual__1")
    bag.dags["zigong_retrain"].get_task("build_base").execute(
        {"dag_run": dag_run, "ti": SimpleNamespace(try_number=1, max_tries=3)}
    )
    passed = json.loads((home / "environment.json").read_text(encoding="utf-8"))
    assert not {"AIRFLOW_CONN_CORE_BANKING", "AWS_SECRET_ACCESS_KEY", "AIRFLOW_HOME", "ZIGONG_USER_KEY"} & set(passed)
    assert passed["MLFLOW_TRACKING_TOKEN"] == "wanted"
    assert {"PATH", "HOME", "PYTHONPATH", "PYSPARK_PYTHON"} <= set(passed)


def test_a_ray_step_is_submitted_to_the_cluster_and_stopped_there(
    bag: DagBag, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ``ray`` of the interpreter's environment is called, here a program that records its arguments."""
    (home / "bin").mkdir()
    (home / "bin/ray").write_text(f'#!/bin/sh\necho "$PYTHONPATH" "$@" >> {home}/calls.txt\n', encoding="utf-8")
    (home / "bin/ray").chmod(0o755)
    monkeypatch.setenv("ZIGONG_PYTHON", str(home / "bin/python"))
    monkeypatch.setenv("ZIGONG_RAY_ADDRESS", "http://head:8265")
    task, dag_run = bag.dags["zigong_retrain"].get_task("train_agent"), SimpleNamespace(run_id="manual__1")
    task.execute({"dag_run": dag_run, "ti": SimpleNamespace(try_number=2, max_tries=3)})
    task.on_kill()
    before, submitted, stopped = (home / "calls.txt").read_text(encoding="utf-8").splitlines()
    job, archive = f"{commands.run_name('zigong_retrain', 'manual__1')}-train_agent-2", f"{home}/dist/zigong.zip"
    submit = f"job submit --address http://head:8265 --submission-id {job} --working-dir {archive} -- python -m"
    assert submitted.startswith(f"{archive} {submit} jobs.train_agent --recipe ")
    assert submitted.endswith(" --schedule retrain --retry")
    assert stopped == f"{archive} job stop --address http://head:8265 {job}"
    assert before == stopped.removesuffix("-2") + "-1"  # its task may have died without it


# The real thing


def test_zigong_daily_runs_to_success(bag: DagBag) -> None:
    """Without an interval, as the first load; the steps in CHECKED_SKIPS only count as done."""
    skipped = os.environ["CHECKED_SKIPS"]
    run = bag.dags["zigong_daily"].test(logical_date=None, mark_success_pattern=skipped or None)
    assert states(run) == dict.fromkeys(pipeline.SCHEDULES["daily"], TaskInstanceState.SUCCESS)
    assert run.state == DagRunState.SUCCESS


def test_a_night_runs_to_success(bag: DagBag) -> None:
    """Ingest alone, after the first load."""
    night = datetime.fromisoformat(os.environ["CHECKED_NIGHT"])
    run = bag.dags["zigong_daily"].test(logical_date=night, mark_success_pattern="build_.*")
    assert run.state == DagRunState.SUCCESS


def states(run: Any) -> dict[str, TaskInstanceState]:
    return {task.task_id: task.state for task in run.get_task_instances()}
