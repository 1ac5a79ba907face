"""A publish killed between two phases: readers see either the old or the new version, and a rerun completes it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.support.finished import REPOSITORY
from tests.support.killed_publish import MOMENTS, NEW, PHASES, RUN_ID, publish_new
from tests.support.points import POINTS, points, put
from zigong.lakehouse.audit_log import audit_entries
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staging import remove_former_staging
from zigong.lakehouse.tables import arrow_pinned, latest_version, open_pinned
from zigong.lakehouse.verify_audit_log import verify_audit_log

OLD = ["o1", "o2", "o3"]


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with a good version of the table."""
    root = tmp_path_factory.mktemp("published")
    put(spark, root, points(spark, OLD), "old")
    return root


def kill(root: Path, phase: str, moment: str) -> None:
    """Publishes over the good version in a process group of its own, which nobody survives."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.killed_publish", str(root), phase, moment],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    )
    assert child.wait() == -signal.SIGKILL


def readers_see(spark: SparkSession, root: Path) -> list[str]:
    """The rows by Spark; delta-rs reads the same."""
    paths = LakehousePaths.at(str(root))
    version = latest_version(paths, POINTS)
    rows = sorted(row["user_id"] for row in open_pinned(spark, paths, POINTS, version).select("user_id").collect())
    assert sorted(arrow_pinned(paths, POINTS, version, columns=["user_id"])["user_id"].to_pylist()) == rows
    return rows


def told_of_new(root: Path, table: str, columns: Sequence[str]) -> list[dict[str, object]]:
    """What a table records of the killed run."""
    paths = LakehousePaths.at(str(root))
    rows = arrow_pinned(paths, table, latest_version(paths, table), columns=["run_id", *columns]).to_pylist()
    return [{name: row[name] for name in columns} for row in rows if row["run_id"] == RUN_ID]


def require_finished_by_a_rerun(spark: SparkSession, root: Path) -> None:
    """Every row is published once, and no staged file is left."""
    done = publish_new(spark, root)
    assert readers_see(spark, root) == NEW
    assert (done.rows_in, done.published, done.quarantined, done.dropped) == (23, 20, 1, {"duplicate": 2})
    assert told_of_new(root, "quarantine", ["reasons"]) == [{"reasons": ["reason_states_exclusion"]}]
    verdict = {"verdict": "passed", "rows_in": 23, "rows_published": 20, "rows_quarantined": 1, "rows_dropped": 2}
    assert told_of_new(root, "verdicts", list(verdict)) == [verdict]
    entries = audit_entries(LakehousePaths.at(str(root)))
    assert [(entry.action, entry.run_id, entry.rows_published) for entry in entries] == [
        ("published", "old", 3),
        ("published", RUN_ID, 20),
    ]
    assert verify_audit_log(LakehousePaths.at(str(root))).matched == 2
    for table in (POINTS, "quarantine"):
        leave_no_unnamed_file(root, table)


def leave_no_unnamed_file(root: Path, table: str) -> None:
    """Every file of rows below the table was added by a commit; what the killed attempt had staged is gone."""
    paths = LakehousePaths.at(str(root))
    remove_former_staging(paths, RUN_ID, token=1)
    folder, named = Path(paths.table(table)), set[str]()
    for version in range(latest_version(paths, table) + 1):
        named |= set(DeltaTable(str(folder), version=version).file_uris())
    assert {str(file) for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts} == named


def check(spark: SparkSession, published: Path, root: Path, phase: str, moment: str) -> None:
    shutil.copytree(published, root, dirs_exist_ok=True)
    kill(root, phase, moment)
    promoted = (phase, moment) == ("promote", "after") or phase == "log"
    assert readers_see(spark, root) == (NEW if promoted else OLD)
    require_finished_by_a_rerun(spark, root)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("phase", "moment"),
    [*((phase, moment) for phase in PHASES for moment in MOMENTS), ("stage", "during")],
)
def test_a_publish_killed_at_any_point_leaves_a_complete_version_and_a_rerun_finishes_it(
    spark: SparkSession, published: Path, tmp_path: Path, phase: str, moment: str
) -> None:
    check(spark, published, tmp_path, phase, moment)
