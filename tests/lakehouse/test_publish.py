"""Stage, audit, promote on real Delta tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from functools import reduce
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from schemas.contracts import table_contract
from tests.support.points import POINTS, POPULATION, job_at, points, put
from zigong.errors import DataError
from zigong.lakehouse import publish
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.counting import CountedRows
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.publish import Rules
from zigong.lakehouse.staging import Stage
from zigong.lakehouse.tables import arrow_pinned, latest_version, open_pinned


def test_a_broken_row_goes_to_quarantine_with_its_reason_and_nothing_is_lost(
    spark: SparkSession, tmp_path: Path
) -> None:
    users = [f"u{number}" for number in range(20)]
    frame = points(spark, users).unionByName(points(spark, ["c"], eligible=False))

    done = put(spark, tmp_path, frame, "r1", dropped={"duplicate": 2})

    assert (done.rows_in, done.published, done.quarantined, done.dropped) == (23, 20, 1, {"duplicate": 2})
    paths = LakehousePaths.at(str(tmp_path))
    rejected = arrow_pinned(paths, "quarantine", latest_version(paths, "quarantine")).to_pylist()
    assert [row["reasons"] for row in rejected] == [["reason_states_exclusion"]]
    assert '"user_id":"c"' in rejected[0]["payload"]


def test_rows_that_are_lost_between_read_and_commit_stop_the_publish(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = publish._stage

    def lossy(folder: Stage, rows: DataFrame, rules: Rules, cells: str) -> CountedRows:
        counted = stage(folder, rows.repartition(2), rules, cells)
        lost, *_ = sorted(Path(folder.uri).rglob("*.parquet"))
        lost.unlink()
        return counted

    monkeypatch.setattr(publish, "_stage", lossy)
    with pytest.raises(DataError, match=r"60 rows were read, but [1-5]?[0-9] are to be published, 0 quarantined"):
        put(spark, tmp_path, points(spark, [f"u{number}" for number in range(60)]), "r1")
    paths = LakehousePaths.at(str(tmp_path))
    assert arrow_pinned(paths, POINTS, latest_version(paths, POINTS)).num_rows == 0


def test_a_rerun_of_the_same_run_changes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    first = put(spark, tmp_path, points(spark, ["a", "b"]), "r1")
    again = put(spark, tmp_path, points(spark, ["x"]), "r1")

    assert again == first
    assert latest_version(LakehousePaths.at(str(tmp_path)), POINTS) == first.version


def test_a_blocked_table_keeps_the_published_version_and_names_the_rule(spark: SparkSession, tmp_path: Path) -> None:
    first = put(spark, tmp_path, points(spark, ["a"]), "r1")

    with pytest.raises(DataError, match="key_is_unique: expected at most 0, observed 1"):
        put(spark, tmp_path, points(spark, ["b", "b"]), "r2")

    paths = LakehousePaths.at(str(tmp_path))
    assert latest_version(paths, POINTS) == first.version
    verdicts = arrow_pinned(paths, "verdicts", latest_version(paths, "verdicts"), columns=["run_id", "verdict"])
    assert {row["run_id"]: row["verdict"] for row in verdicts.to_pylist()} == {"r1": "passed", "r2": "blocked"}


def test_too_many_refused_rows_block_the_table_and_remain_in_quarantine(spark: SparkSession, tmp_path: Path) -> None:
    frame = points(spark, ["a", "b"]).unionByName(points(spark, ["c"], eligible=False))
    with pytest.raises(DataError, match=r"few_rows_are_refused: expected at most 0.05, observed 0.3333"):
        put(spark, tmp_path, frame, "r1")
    paths = LakehousePaths.at(str(tmp_path))
    assert arrow_pinned(paths, POINTS, latest_version(paths, POINTS)).num_rows == 0
    assert arrow_pinned(paths, "quarantine", latest_version(paths, "quarantine")).num_rows == 1


def test_a_pinned_version_keeps_its_rows_when_the_table_changes(spark: SparkSession, tmp_path: Path) -> None:
    first = put(spark, tmp_path, points(spark, ["a"]), "r1")
    second = put(spark, tmp_path, points(spark, ["b", "c"]), "r2")

    paths = LakehousePaths.at(str(tmp_path))
    assert [r["user_id"] for r in open_pinned(spark, paths, POINTS, first.version).collect()] == ["a"]
    assert arrow_pinned(paths, POINTS, second.version, columns=["user_id"]).num_rows == 2


def test_rows_of_a_partition_are_in_one_file_whatever_the_number_of_tasks(spark: SparkSession, tmp_path: Path) -> None:
    days = [date(2024, 1, day) for day in range(1, 7)]
    users = [f"u{number}" for number in range(60)]
    parts = [points(spark, users, observation_date=day, observation_at=datetime(2024, 1, day.day)) for day in days]
    rows = reduce(DataFrame.unionByName, parts).repartition(8)
    job = job_at(tmp_path, "many")
    version = job.publish(POINTS, rows, cells=f"population = '{POPULATION}'")
    assert arrow_pinned(job.paths, POINTS, version, columns=["user_id"]).num_rows == len(users) * len(days)
    assert len(DeltaTable(job.paths.table(POINTS), version=version).file_uris()) == len(days)


def test_reading_an_unpublished_table_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="behavior_card_scores was never published"):
        latest_version(LakehousePaths.at(str(tmp_path)), "behavior_card_scores")


@pytest.mark.usefixtures("spark")
def test_a_table_of_an_older_contract_is_named_before_it_is_read_or_written(tmp_path: Path) -> None:
    paths, contract = LakehousePaths.at(str(tmp_path)), table_contract(POINTS)
    older = replace(contract, columns=tuple(column for column in contract.columns if column.name != "loan_open"))
    create_if_missing(paths, older)
    with pytest.raises(DataError, match="observation_points has no column loan_open: it was written under an older"):
        create_if_missing(paths, contract)
    with pytest.raises(DataError, match="no column loan_open"):
        arrow_pinned(paths, POINTS, 0, columns=["user_id", "loan_open"])


@pytest.mark.usefixtures("spark")
def test_a_table_whose_column_has_another_type_is_refused_by_name(tmp_path: Path) -> None:
    paths, contract = LakehousePaths.at(str(tmp_path)), table_contract("user_timelines")
    columns = [replace(c, type="array<string>") if c.name == "timeline" else c for c in contract.columns]
    create_if_missing(paths, replace(contract, columns=tuple(columns)))
    with pytest.raises(DataError, match=r"user_timelines: columns timeline have another type .* under an older"):
        create_if_missing(paths, contract)


def test_cells_without_rows_are_published_where_they_may_be_empty(spark: SparkSession, tmp_path: Path) -> None:
    assert put(spark, tmp_path, points(spark, []), "r0", may_be_empty=True).published == 0
    put(spark, tmp_path, points(spark, ["a", "b"]), "r1")
    with pytest.raises(DataError, match="audit blocked 0 rows"):
        put(spark, tmp_path, points(spark, []), "r2")

    done = put(spark, tmp_path, points(spark, []), "r3", may_be_empty=True)

    assert (done.verdict, done.rows_in, done.published) == ("passed", 0, 0)
    assert open_pinned(spark, LakehousePaths.at(str(tmp_path)), POINTS, done.version).count() == 0
    assert put(spark, tmp_path, points(spark, []), "r3", may_be_empty=True) == done
