"""One committer: exactly one version for each commit, exactly the cells that were named, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from tests.support.finished import REPOSITORY
from tests.support.points import POINTS, points, put
from tests.support.racing_commits import TABLE
from tests.support.s3 import BUCKET, environment, s3_server
from zigong.errors import DataError
from zigong.lakehouse import committer
from zigong.lakehouse.commits import create_if_missing, own_commits
from zigong.lakehouse.lineage import newest_instant, rows_in
from zigong.lakehouse.maintain import maintain
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.replacing import replace_cells
from zigong.lakehouse.staging import Stage, leftovers, new_stage, staged
from zigong.lakehouse.tables import arrow_pinned, latest_version, open_pinned

QUARANTINE = "quarantine"
ODD = ["a b", "50%", "ü+~*:", "x=y", "d/e", "2024-01-01", "it's #1?"]
MOMENT = datetime(2024, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path: Path) -> LakehousePaths:
    return LakehousePaths.at(str(tmp_path))


def refused(spark: SparkSession, keys: Sequence[tuple[str, str, str]], at: datetime | None = None) -> DataFrame:
    """Rows of quarantine with a table, a payload and a version of the rules."""
    rows = [(table, "r1", ["why"], payload, rules, at or MOMENT, None) for table, payload, rules in keys]
    return spark.createDataFrame(rows, table_contract(QUARANTINE).ddl)


def replaced(spark: SparkSession, paths: LakehousePaths, rows: DataFrame, cells: str) -> int | None:
    create_if_missing(paths, table_contract(QUARANTINE))
    with staged(paths, QUARANTINE, run_id="r1", token=1) as stage:
        stage.write(rows, "rows")
        return replace_cells(spark, stage, stage.files("rows"), cells=cells, metadata={"run_id": "r1"})


def read(spark: SparkSession, paths: LakehousePaths, *columns: str) -> list[tuple[object, ...]]:
    """The newest rows by Spark; delta-rs reads the same."""
    version = latest_version(paths, QUARANTINE)
    rows = sorted(tuple(row) for row in open_pinned(spark, paths, QUARANTINE, version).select(*columns).collect())
    found = arrow_pinned(paths, QUARANTINE, version, columns=columns).to_pylist()
    assert sorted(tuple(row[name] for name in columns) for row in found) == rows
    return rows


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("store", ["disk", "s3"])
def test_of_racing_processes_each_makes_the_versions_it_was_told(tmp_path: Path, store: str) -> None:
    server: AbstractContextManager[dict[str, str]] = s3_server() if store == "s3" else nullcontext({})
    with server as variables, environment(variables):
        paths = LakehousePaths.at(f"s3://{BUCKET}/lakehouse" if store == "s3" else str(tmp_path))
        create_if_missing(paths, table_contract(TABLE))
        names, each = ["a", "b", "c"], 10
        command = [sys.executable, "-m", "tests.support.racing_commits", paths.root]
        child = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        racers = [
            subprocess.Popen([*command, name, str(each)], cwd=REPOSITORY, env=child, stdout=subprocess.PIPE)
            for name in names
        ]
        claimed = [sorted(map(int, racer.communicate()[0].split())) for racer in racers]
        assert [racer.returncode for racer in racers] == [0, 0, 0]
        assert sorted(chain(*claimed)) == list(range(1, len(names) * each + 1))
        for name, versions in zip(names, claimed, strict=True):
            assert sorted(commit["version"] for commit in own_commits(paths, TABLE, name)) == versions
        assert rows_in(paths, TABLE, len(names) * each) == len(names) * each
        assert leftovers(paths, TABLE) == []


def test_any_partition_value_is_written_read_and_replaced(spark: SparkSession, paths: LakehousePaths) -> None:
    replaced(spark, paths, refused(spark, [(value, "old", "1") for value in ODD]), "true")
    assert read(spark, paths, "table_name", "payload") == sorted((value, "old") for value in ODD)

    for value in ODD:
        quoted = value.replace("'", "\\'")
        replaced(spark, paths, refused(spark, [(value, "new", "1")]), f"table_name = '{quoted}'")

    assert read(spark, paths, "table_name", "payload") == sorted((value, "new") for value in ODD)


def test_files_that_spark_itself_committed_are_replaced(spark: SparkSession, paths: LakehousePaths) -> None:
    create_if_missing(paths, table_contract(QUARANTINE))
    former = refused(spark, [(value, "old", "1") for value in ODD])
    former.write.format("delta").mode("append").save(paths.spark_uri(paths.table(QUARANTINE)))
    replaced(spark, paths, refused(spark, [("50%", "new", "1")]), "table_name IN ('50%', 'a b', 'd/e')")
    kept = {*ODD} - {"50%", "a b", "d/e"}
    assert read(spark, paths, "table_name", "payload") == sorted([("50%", "new"), *((value, "old") for value in kept)])


def test_rows_that_share_a_file_with_replaced_ones_stay(spark: SparkSession, paths: LakehousePaths) -> None:
    first = [(table, f"{table}{number}", rules) for table in "ab" for rules in "12" for number in range(3)]
    replaced(spark, paths, refused(spark, first), "true")
    alone = [("b", "alone", "1")]
    replaced(spark, paths, refused(spark, alone), "table_name = 'b' AND rules_version = '1' AND payload = 'none'")
    before = DeltaTable(paths.table(QUARANTINE)).file_uris()

    version = replaced(spark, paths, refused(spark, [("b", "new", "1")]), "table_name = 'b' AND rules_version = '1'")

    kept = [(table, payload) for table, payload, rules in first if (table, rules) != ("b", "1")]
    assert read(spark, paths, "table_name", "payload") == sorted([*kept, ("b", "new")])
    untouched = [uri for uri in before if "table_name=a" in uri]
    assert set(untouched) < set(DeltaTable(paths.table(QUARANTINE), version=version).file_uris())
    assert replaced(spark, paths, refused(spark, []), "rules_version = '7'") is None


def test_statistics_in_the_log_enclose_the_values(spark: SparkSession, paths: LakehousePaths) -> None:
    version = replaced(spark, paths, refused(spark, [("a", "x", "1")]), "true")
    (row,) = pa.table(DeltaTable(paths.table(QUARANTINE)).get_add_actions(flatten=True)).to_pylist()
    assert row["min.quarantined_at"] <= MOMENT <= row["max.quarantined_at"]
    assert (row["max.quarantined_at"] - row["min.quarantined_at"]).total_seconds() == 0.001
    assert (row["num_records"], row["null_count.quarantined_at"], "min.payload" in row) == (1, 0, False)
    assert newest_instant(paths, QUARANTINE, version or -1, "quarantined_at") == row["max.quarantined_at"]
    found = open_pinned(spark, paths, QUARANTINE, version or -1).where(F.col("quarantined_at") == F.lit(MOMENT))
    assert found.count() == 1


def test_a_commit_whose_answer_was_lost_is_found_and_not_made_twice(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = committer._write

    def made_and_lost(*arguments: Any) -> None:
        write(*arguments)
        raise CommitFailedError("the connection was closed")

    monkeypatch.setattr(committer, "_write", made_and_lost)
    done = put(spark, tmp_path, points(spark, ["a", "b"]), "r1")
    paths = LakehousePaths.at(str(tmp_path))
    assert (done.version, latest_version(paths, POINTS)) == (1, 1)
    assert arrow_pinned(paths, POINTS, 1).num_rows == 2


def test_a_row_outside_its_cells_or_without_a_required_value_is_not_published(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="1 rows are not among population = 'c1' AND observation_date"):
        put(spark, tmp_path, points(spark, ["a"]).unionByName(points(spark, ["b"], population="c2")), "r1")
    paths = LakehousePaths.at(str(tmp_path))
    assert (latest_version(paths, POINTS), leftovers(paths, POINTS)) == (0, [])
    with staged(paths, QUARANTINE, run_id="r1", token=1) as stage:
        stage.write(refused(spark, [("a", "x", "1")]).withColumn("payload", F.lit(None).cast("string")), "rows")
        with pytest.raises(DataError, match="quarantine: 1 rows have no payload, which the contract requires"):
            committer.require_no_nulls(stage.contract, stage.files("rows"))


def test_maintenance_removes_what_an_ended_attempt_staged_and_nothing_of_one_that_works(
    spark: SparkSession, paths: LakehousePaths
) -> None:
    now = datetime.now(UTC)  # older rows of this table expire
    replaced(spark, paths, refused(spark, [("a", "x", "1")], now), "true")
    stages: list[Stage] = [new_stage(paths, QUARANTINE, run_id=run, token=1) for run in ("ended", "works")]
    for stage in stages:
        stage.write(refused(spark, [("b", "y", "1")], now), "rows")
    tried = maintain(paths, QUARANTINE, (), dry_run=True, has_ended=lambda found: found.run_id == "ended")
    done = maintain(paths, QUARANTINE, (), dry_run=False, has_ended=lambda found: found.run_id == "ended")
    assert (tried.removed, done.removed) == (1, 1)
    assert [found.run_id for found in leftovers(paths, QUARANTINE)] == ["works"]
    version = replace_cells(
        spark, stages[1], stages[1].files("rows"), cells="table_name = 'b'", metadata={"run_id": "works"}
    )
    assert arrow_pinned(paths, QUARANTINE, version or -1).num_rows == 2
    assert leftovers(paths, QUARANTINE) == []
