"""Runs: resume, the reuse of a run id, and the record of how steps end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.finished import TINY
from zigong.cli import app
from zigong.errors import ConfigError, DataError
from zigong.recipe import load_recipe
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.run import Run, known_run, list_runs, open_run
from zigong.runs.steps import steps_of


def opened(tmp_path: Path, run_id: str | None, *overrides: str) -> Run:
    return open_run(load_recipe(TINY, [f"lakehouse.root={tmp_path}", *overrides]), tmp_path / "_runs", run_id)


def test_a_run_id_cannot_be_reused_with_another_recipe(tmp_path: Path) -> None:
    opened(tmp_path, "mine")
    with pytest.raises(ConfigError, match="run id mine belongs to recipe digest"):
        opened(tmp_path, "mine", "seed=99")


def test_the_same_recipe_reopens_its_run_with_its_pins(tmp_path: Path) -> None:
    opened(tmp_path, "mine").pin("behavior_events", 7)
    assert opened(tmp_path, "mine").pinned_version("behavior_events") == 7


@pytest.mark.parametrize("run_id", ["../x", "x\n", "x\u2028", "..", ".x", "x/y", "x'y", "x" * 82, "x\0"])
def test_a_malformed_run_id_is_refused_wherever_it_becomes_a_path(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match=r"run id .* must match"):
        opened(tmp_path, run_id)
    with pytest.raises(ConfigError, match=r"run id .* must match"):
        known_run(tmp_path / "_runs", run_id)


def test_the_group_reads_outcomes_whatever_the_umask_and_others_do_not(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        run = opened(tmp_path, "mine")
        run_step("build_labels", lambda _: None, run)
    finally:
        os.umask(before)
    step = run.folder / "steps/build_labels"
    assert {(folder / "outcome.json").stat().st_mode & 0o777 for folder in (step, run.folder)} == {0o640}
    assert {folder.stat().st_mode & 0o777 for folder in (step, step.parent, run.folder)} == {0o750}


def test_a_failed_step_leaves_kind_code_message_and_next_action(tmp_path: Path) -> None:
    run = opened(tmp_path, "mine")

    def body(job: Job) -> None:
        raise DataError("table x, column y: expected 1, found 2", action="correct y")

    run_step("build_labels", body, run)

    recorded = json.loads((run.folder / "outcome.json").read_text())
    assert (recorded["kind"], recorded["code"], recorded["retryable"]) == ("data", 3, False)
    assert (recorded["message"], recorded["action"]) == ("table x, column y: expected 1, found 2", "correct y")


def test_an_unexpected_error_is_recorded_and_raised(tmp_path: Path) -> None:
    run = opened(tmp_path, "mine")

    def body(job: Job) -> None:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        run_step("build_labels", body, run)
    outcome = run.outcome("build_labels")
    assert outcome is not None
    assert (outcome.kind, outcome.code) == ("internal", 1)


def test_runs_are_listed_in_the_order_of_creation(tmp_path: Path) -> None:
    for name in ("b", "a"):
        run = opened(tmp_path, name)
        manifest = run.manifest()
        manifest["created_at"] = f"2024-01-0{1 if name == 'b' else 2}T00:00:00+00:00"
        (run.folder / "manifest.json").write_text(json.dumps(manifest))
    assert [run.run_id for run in list_runs(tmp_path / "_runs")] == ["b", "a"]


def test_a_run_of_another_version_is_listed_but_cannot_be_read(tmp_path: Path) -> None:
    opened(tmp_path, "mine")
    older = opened(tmp_path, "older")
    content = json.loads((older.folder / "recipe.json").read_text())
    (older.folder / "recipe.json").write_text(json.dumps({**content, "removed_section": 1}))
    result = CliRunner().invoke(app, ["runs", "ls", "--json", "--root", str(tmp_path)])
    assert {row["run_id"]: row["outcome"] for row in json.loads(result.stdout)} == {
        "mine": "unfinished",
        "older": "of another version",
    }
    runs = {run.run_id: run for run in list_runs(tmp_path / "_runs")}
    with pytest.raises(ConfigError, match=r"run older was made with a recipe that this version cannot read: .*removed"):
        _ = runs["older"].recipe


def test_a_resumed_run_uses_the_current_engine_limits(tmp_path: Path) -> None:
    opened(tmp_path, "mine")
    assert opened(tmp_path, "mine", "engine.torch_threads=3").recipe.engine.torch_threads == 3


def state(root: Path) -> str:
    result = CliRunner().invoke(app, ["runs", "ls", "--json", "--root", str(root)])
    (row,) = json.loads(result.stdout)
    return str(row["outcome"])


def test_the_list_tells_running_interrupted_failed_stopped_and_finished_runs_apart(tmp_path: Path) -> None:
    run, seen = opened(tmp_path, "mine"), []

    def stopped(job: Job) -> None:
        seen.append(state(tmp_path))
        raise KeyboardInterrupt

    def nothing(job: Job) -> None:
        """Ends at once."""

    def failing(job: Job) -> None:
        raise DataError("x", action="y")

    with pytest.raises(KeyboardInterrupt):
        run_step("ingest_events", stopped, run)
    seen.append(state(tmp_path))
    for body in (failing, nothing):
        run_step("ingest_events", body, run)
        seen.append(state(tmp_path))
    run.ask("ingest_events")
    seen.append(state(tmp_path))
    for step in steps_of(run.recipe):
        run_step(step.name, nothing, run)
    assert [*seen, state(tmp_path)] == [
        "running ingest_events",
        "interrupted in ingest_events",
        "data in ingest_events",
        "unfinished",
        "ok until ingest_events",
        "ok",
    ]


def test_an_interrupted_run_ends_with_its_id_and_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(step: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("zigong.runs.runner.load_body", stopped)
    answer = CliRunner().invoke(app, ["run", str(TINY), "--set", f"lakehouse.root={tmp_path}", "--run-id", "mine"])
    assert answer.exit_code == 130
    assert f"stopped; run mine continues with: zigong run {TINY} --set lakehouse.root={tmp_path} --run-id mine" in (
        answer.output
    )
