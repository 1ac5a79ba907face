"""Every job is a separate program: steps started one by one by a scheduler give the same rows as one process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from tests.support.finished import REPOSITORY, FinishedRun
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned
from zigong.recipe import load_recipe
from zigong.runs.job import runs_folder
from zigong.runs.run import Run, open_run
from zigong.runs.steps import steps_of

pytestmark = pytest.mark.soak  # fourteen engines start one after the other


@pytest.fixture(scope="module")
def stepwise(tiny_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The recipe of the finished run in a lakehouse of its own, a process for every step."""
    root = tmp_path_factory.mktemp("stepwise")
    content = yaml.safe_load(tiny_run.recipe_file.read_text(encoding="utf-8"))
    content["lakehouse"]["root"] = str(root)
    file = root / "recipe.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    recipe = load_recipe(file)
    for step in steps_of(recipe):
        command = [sys.executable, "-m", f"jobs.{step.name}", "--recipe", str(file), "--run-id", "alone"]
        done = subprocess.run(command, env=environment, cwd=root, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{step.name}: {done.stderr[-3000:]}"
    return open_run(recipe, runs_folder(recipe), "alone")


def _rows(run: Run, table: str) -> list[str]:
    paths = LakehousePaths.at(run.recipe.lakehouse.root)
    rows = arrow_pinned(paths, table, run.manifest()["tables"][table])
    return sorted(str(sorted(row.items())) for row in rows.to_pylist())


@pytest.mark.parametrize("table", ["dataset_members", "training_mix", "evaluation_answers", "behavior_card_scores"])
def test_steps_started_one_by_one_give_the_rows_of_one_process(
    stepwise: Run, tiny_run: FinishedRun, table: str
) -> None:
    rows = _rows(stepwise, table)
    assert rows
    assert rows == _rows(tiny_run.run, table)
