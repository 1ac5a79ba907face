"""The step score_influence in a finished lakehouse: scores that a second run reuses, computes and quarantines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from jobs.score_influence import score_influence
from tests.support.finished import REPOSITORY, FinishedRun
from tests.support.paced_influence import PacedInfluence
from zigong.influence import scorer
from zigong.influence.rescoring import CRASHED
from zigong.lakehouse.commits import own_commits
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import load_recipe
from zigong.runs.handover import Agent, Dataset, InfluenceScores, TrainedBase
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.run import Run, open_run


@pytest.fixture
def root(tiny_run: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the lakehouse."""
    return Path(shutil.copytree(tiny_run.root, tmp_path / "lake"))


def second_run(tiny_run: FinishedRun, root: Path, name: str, *changes: str) -> Run:
    """Another run, completed up to the agent."""
    recipe = load_recipe(tiny_run.recipe_file, [f"lakehouse.root={root}", *changes])
    run, first = open_run(recipe, root / "_runs", name), tiny_run.run.manifest()
    for table in ("dataset_members", "instruction_samples"):
        run.pin(table, first["tables"][table])
    shutil.copytree(root / "_runs" / tiny_run.run_id / "artifacts", run.folder / "artifacts")
    run.leave(tiny_run.run.take(Dataset))
    for made in (tiny_run.run.take(TrainedBase), tiny_run.run.take(Agent)):
        run.leave(replace(made, folder=run.artefact_folder(type(made))))
    return run


def rows(root: Path, table: str) -> pa.Table:
    return DeltaTable(str(root / "tables" / table)).to_pyarrow_table()


def unscored(root: Path, keys: list[str]) -> None:
    """Removes published scores, as if the samples were new."""
    named = ", ".join(f"'{key}'" for key in keys)
    DeltaTable(str(root / "tables/influence_scores")).delete(f"sample_id IN ({named})")


@pytest.mark.soak
def test_a_second_run_computes_only_what_no_run_has_scored_and_has_the_same_bits(
    tiny_run: FinishedRun, root: Path
) -> None:
    before = rows(root, "influence_scores").sort_by("sample_id")
    unscored(root, before["sample_id"].to_pylist()[3:6])
    run = second_run(tiny_run, root, "second")
    assert run_step("score_influence", score_influence, run).code == 0
    assert rows(root, "influence_scores").sort_by("sample_id").equals(before)
    counts = {name: run.metrics()[f"influence.{name}"] for name in ("taken_over", "computed", "refused")}
    assert counts == {"taken_over": len(before) - 3, "computed": 3, "refused": 0}


@pytest.mark.soak
def test_users_on_token_trees_have_the_scores_of_separate_samples(tiny_run: FinishedRun, root: Path) -> None:
    separate = rows(root, "influence_scores").sort_by("sample_id")
    run = second_run(tiny_run, root, "trees", "influence.engine=trees", "influence.batch_tokens=1024")
    assert run_step("score_influence", score_influence, run).code == 0
    ours = ds.field("scorer_id") == run.take(InfluenceScores).scorer_id
    found = rows(root, "influence_scores").filter(ours).sort_by("sample_id")
    assert found["sample_id"].equals(separate["sample_id"])
    for name in ("score", "loss"):
        wanted = separate[name].to_numpy()
        np.testing.assert_allclose(found[name].to_numpy(), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.soak
def test_a_sample_that_kills_its_worker_is_quarantined_and_the_others_are_published(
    tiny_run: FinishedRun, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = rows(root, "influence_scores").sort_by("sample_id")
    lost = before["sample_id"].to_pylist()[3:6]
    unscored(root, lost)
    (tmp_path / "notes").mkdir()
    fatal = partial(PacedInfluence, notes=tmp_path / "notes", deadly=lost[:1])
    monkeypatch.setattr(scorer, "InfluenceWorker", fatal)
    outcome = run_step("score_influence", score_influence, second_run(tiny_run, root, "second"))
    counts = outcome.tables["influence_scores"]
    assert (counts["rows_in"], counts["published"], counts["quarantined"]) == (len(before), len(before) - 1, 1)
    rest = before.filter(ds.field("sample_id") != lost[0])
    assert rows(root, "influence_scores").sort_by("sample_id").equals(rest)
    (row,) = rows(root, "quarantine").filter(ds.field("run_id") == "second").to_pylist()
    assert (row["table_name"], row["reasons"]) == ("influence_scores", [CRASHED])
    assert json.loads(row["payload"])["sample_id"] == lost[0]


@pytest.mark.soak
def test_a_step_that_is_killed_at_any_moment_publishes_the_same_scores_once(tiny_run: FinishedRun, root: Path) -> None:
    """Kills the command three times: with no, with the first and with the third of four shards complete."""
    before = rows(root, "influence_scores").sort_by("sample_id")
    shutil.rmtree(root / "tables/influence_scores")
    run = second_run(tiny_run, root, "killed")
    staged = Job(step="score_influence", run=run, paths=LakehousePaths.at(str(root))).stage("influence_scores")
    command = [sys.executable, "-m", "jobs.score_influence", "--recipe", str(tiny_run.recipe_file)]
    command += ["--run-id", "killed", "--set", f"lakehouse.root={root}"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=REPOSITORY, env={**environment, "PYTHONPATH": str(REPOSITORY)})

    for complete in (0, 1, 3):
        driver = start()
        time.sleep(5)
        while len(list(staged.glob("*.json"))) < complete and driver.poll() is None:
            time.sleep(0.02)
        assert driver.poll() is None
        driver.kill()
        driver.wait()
    assert not (root / "tables/influence_scores").exists()
    assert len(list(staged.glob("*.json"))) >= 3
    assert start().wait() == 0
    assert rows(root, "influence_scores").sort_by("sample_id").equals(before)
    (commit,) = own_commits(LakehousePaths.at(str(root)), "influence_scores", "killed")
    assert commit["published"] == len(before)
