"""Two concurrent backfills of the same dates: one complete result, and the loser either recomputed it or failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from tests.support.finished import REPOSITORY, TINY
from zigong.errors import ConflictError
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version

TABLES = ("observation_points", "performance_labels")
COHORTS = {"strict": 4, "open": 1}  # required months of history: the two results differ in every table
ROUNDS = 3
DATES = ("--from-date", "2023-03-01", "--to-date", "2023-07-01")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with events, and the result of either backfill alone."""
    home = tmp_path_factory.mktemp("backfills")
    for cohort, months in COHORTS.items():
        content = yaml.safe_load(TINY.read_text(encoding="utf-8"))
        content["lakehouse"]["root"] = str(home / "lakehouse")
        content["observations"]["cohort"]["min_history_months"] = months
        (home / f"{cohort}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert job(home, "ingest_events", "open", "events").wait() == 0
    return home


def job(home: Path, step: str, cohort: str, run_id: str) -> subprocess.Popen[bytes]:
    dates = () if step == "ingest_events" else DATES
    command = [sys.executable, f"jobs/{step}.py", "--recipe", str(home / f"{cohort}.yaml"), "--run-id", run_id, *dates]
    log = (home / f"{run_id}.log").open("wb")
    return subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=log, stderr=log
    )


def content(home: Path, table: str) -> list[dict[str, object]]:
    paths = LakehousePaths.at(str(home / "lakehouse"))
    rows: pa.Table = arrow_pinned(paths, table, latest_version(paths, table))
    return sorted(rows.to_pylist(), key=lambda row: json.dumps(row, default=str, sort_keys=True))


def outcome(home: Path, run_id: str) -> dict[str, object]:
    content = json.loads((home / "lakehouse" / "_runs" / run_id / "outcome.json").read_text())
    assert isinstance(content, dict)
    return content


@pytest.mark.soak
def test_two_concurrent_backfills_end_as_exactly_one_of_them(home: Path) -> None:
    alone = {}
    for cohort in COHORTS:
        assert job(home, "build_labels", cohort, f"alone-{cohort}").wait() == 0
        alone[cohort] = {table: content(home, table) for table in TABLES}
    assert all(alone["strict"][table] != alone["open"][table] for table in TABLES)
    for number in range(ROUNDS):
        names = {cohort: f"{cohort}-{number}" for cohort in COHORTS}
        for process in [job(home, "build_labels", cohort, run_id) for cohort, run_id in names.items()]:
            process.wait()
        outcomes = {cohort: outcome(home, run_id) for cohort, run_id in names.items()}
        assert {item["kind"] for item in outcomes.values()} <= {"ok", ConflictError.kind}, outcomes
        assert "ok" in {item["kind"] for item in outcomes.values()}
        found = {table: content(home, table) for table in TABLES}
        assert found in alone.values(), "a mixture: points and labels are not those of one run"
        for cohort, item in outcomes.items():  # a loser repeats its run without competition
            if item["kind"] != "ok":
                assert job(home, "build_labels", cohort, names[cohort]).wait() == 0
                assert content(home, TABLES[1]) == alone[cohort][TABLES[1]]
