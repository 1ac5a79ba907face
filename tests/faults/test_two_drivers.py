"""Two processes on one run id, as a task that Airflow takes for dead and its retry: one works, the other gives way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.finished import REPOSITORY
from zigong.lakehouse.commits import own_commits
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version


def driver(root: Path) -> subprocess.Popen[bytes]:
    sets = [f"lakehouse.root={root}", "source.simulation.users=40"]
    arguments = [argument for item in sets for argument in ("--set", item)]
    command = [sys.executable, "-m", "jobs.ingest_events", "--recipe", "tests/tiny.yaml", "--run-id", "one", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})


@pytest.mark.soak
@pytest.mark.parametrize("seconds_apart", [0, 4])
def test_of_two_processes_on_one_run_id_one_publishes_and_the_other_ends_in_a_conflict(
    tmp_path: Path, seconds_apart: float
) -> None:
    first = driver(tmp_path)
    time.sleep(seconds_apart)
    second = driver(tmp_path)
    assert sorted((first.wait(), second.wait())) == [0, 4]
    if seconds_apart:
        assert second.returncode == 4
    paths = LakehousePaths.at(str(tmp_path))
    outcome = json.loads((tmp_path / "_runs/one/outcome.json").read_text(encoding="utf-8"))
    assert (outcome["kind"], outcome["attempt"]) == ("ok", 1)
    for table, counts in outcome["tables"].items():
        if counts["version"] is not None:
            assert len(own_commits(paths, table, "one")) == 1
            assert len(arrow_pinned(paths, table, latest_version(paths, table))) == counts["published"] > 0
