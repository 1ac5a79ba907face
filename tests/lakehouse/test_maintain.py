"""Maintenance compacts tables, removes unneeded files, and keeps the versions that runs pin."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from tests.support.finished import TINY
from zigong.cli import app
from zigong.errors import ConfigError, DataError
from zigong.lakehouse.commits import replace_rows
from zigong.lakehouse.lost_files import require_readable, require_written
from zigong.lakehouse.maintain import maintain, pins
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version, open_pinned
from zigong.recipe import load_recipe
from zigong.runs.run import open_run

VERDICT = {
    "verdict": "passed",
    "rows_in": 1,
    "rows_published": 1,
    "rows_quarantined": 0,
    "rows_dropped": 0,
    "rows_outside": 0,
    "failures": [],
    "warnings": [],
    "results": [],
    "rules_version": "1",
}


@pytest.fixture
def paths(spark: SparkSession, tmp_path: Path) -> LakehousePaths:
    """Verdicts of three tables, one commit each, then the first one replaced: versions 1 to 4 of one table."""
    made = LakehousePaths.at(str(tmp_path))
    for name in ("t0", "t1", "t2", "t0"):
        row = {**VERDICT, "run_id": "r", "table_name": name, "decided_at": datetime.now(UTC)}
        where = f"run_id = 'r' AND table_name = '{name}'"
        replace_rows(made, "verdicts", [row], where=where, metadata={"run_id": "r"})
    return made


def tables_at(paths: LakehousePaths, version: int) -> list[str]:
    return sorted(arrow_pinned(paths, "verdicts", version)["table_name"].to_pylist())


def test_pins_collect_every_version_in_a_manifest() -> None:
    manifests = [{"tables": {"x": 3, "y": 1}}, {"tables": {"x": 2}}, {"tables": {"x": 3}}]
    assert pins(manifests) == {"x": (2, 3), "y": (1,)}


def test_small_files_are_compacted_and_pinned_versions_remain_readable(paths: LakehousePaths) -> None:
    before = tables_at(paths, 4)
    done = maintain(paths, "verdicts", (2,), retain_hours=0, dry_run=False)
    assert (done.files_before, done.files_after, done.pinned) == (3, 1, (2,))
    assert done.removed > 0
    assert tables_at(paths, latest_version(paths, "verdicts")) == before == ["t0", "t1", "t2"]
    assert tables_at(paths, 2) == ["t0", "t1"]
    with pytest.raises(FileNotFoundError):
        tables_at(paths, 4)


def test_young_files_and_dry_runs_leave_every_version_readable(paths: LakehousePaths) -> None:
    tried = maintain(paths, "verdicts", (), retain_hours=0, dry_run=True)
    assert tried.removed == 1  # of the row that was replaced
    assert len(DeltaTable(paths.table("verdicts")).file_uris()) == 3
    maintain(paths, "verdicts", (), dry_run=False)
    newest = latest_version(paths, "verdicts")
    assert [len(tables_at(paths, version)) for version in (1, 2, 3, 4, newest)] == [1, 2, 3, 3, 3]


def test_spark_reads_a_version_of_last_month(spark: SparkSession, paths: LakehousePaths) -> None:
    last_month = time.time() - 30 * 86_400
    for file in (file for file in Path(paths.table("verdicts")).rglob("*") if file.is_file()):
        os.utime(file, (last_month, last_month))
    assert [open_pinned(spark, paths, "verdicts", version).count() for version in (1, 2, 4)] == [1, 2, 3]


def test_a_negative_age_is_refused(paths: LakehousePaths) -> None:
    with pytest.raises(ConfigError, match="is negative"):
        maintain(paths, "verdicts", (), retain_hours=-1, dry_run=True)


def test_the_command_keeps_versions_that_runs_pin(paths: LakehousePaths) -> None:
    recipe = load_recipe(TINY, [f"lakehouse.root={paths.root}"])
    open_run(recipe, Path(paths.local("_runs")), "kept").pin("verdicts", 3)
    answer = CliRunner().invoke(app, ["maintain", "--root", paths.root, "--retain-hours", "0"])
    assert answer.exit_code == 0, answer.output
    assert tables_at(paths, 3) == ["t0", "t1", "t2"]
    assert latest_version(paths, "verdicts") > 4


def test_a_file_of_a_commit_that_is_being_made_is_kept_until_it_is_a_day_old(paths: LakehousePaths) -> None:
    written = Path(paths.table("verdicts")) / "part-of-a-writer.parquet"
    written.write_bytes(b"not committed yet")
    maintain(paths, "verdicts", (), retain_hours=0, dry_run=False)
    assert written.is_file()
    an_old_one = time.time() - 25 * 3600
    os.utime(written, (an_old_one, an_old_one))
    maintain(paths, "verdicts", (), retain_hours=0, dry_run=False)
    assert not written.exists()


def test_a_commit_with_removed_files_is_named_and_a_complete_delivery_replaces_them(paths: LakehousePaths) -> None:
    newest = latest_version(paths, "verdicts")
    require_written(paths, "verdicts", newest)
    assert require_readable(paths, "verdicts", replaced=True, run_id="r") is None
    opened = DeltaTable(paths.table("verdicts"))
    (lost,) = [uri for uri in opened.file_uris() if uri.endswith(last(opened))]
    Path(lost).unlink()
    with pytest.raises(DataError, match=f"version {newest} names 1 files, of which 1 do not exist"):
        require_written(paths, "verdicts", newest)
    with pytest.raises(DataError, match="1 of 3 files of version 4, with 1 rows, do not exist"):
        require_readable(paths, "verdicts", replaced=False, run_id="r")
    warning = require_readable(paths, "verdicts", replaced=True, run_id="r")
    assert warning is not None
    assert "1 of 3 files" in warning
    assert tables_at(paths, latest_version(paths, "verdicts")) == ["t1", "t2"]


def last(opened: DeltaTable) -> str:
    """The file that the newest commit added."""
    log = Path(opened.table_uri.removeprefix("file://")) / "_delta_log" / f"{opened.version():020d}.json"
    (added,) = [action["add"]["path"] for line in log.read_text().splitlines() if "add" in (action := json.loads(line))]
    return str(added)
