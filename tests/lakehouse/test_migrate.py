"""Tables of an older contract: added, renamed and wider columns in one commit, and former versions as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from schemas.contracts import Column, TableContract, table_contract
from tests.support.points import POINTS, points, put
from zigong.cli import app
from zigong.errors import DataError
from zigong.lakehouse import publish, replacing, staging
from zigong.lakehouse.migrate import ADDED, LEFT_OUT, RENAMED, WIDENED, column_changes, migrate
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version, open_pinned

USERS = ["a", "b", "c"]


def changed(contract: TableContract, column: str, /, **changes: Any) -> TableContract:
    columns = tuple(replace(c, **changes) if c.name == column else c for c in contract.columns)
    return replace(contract, columns=columns)


@pytest.fixture
def paths(spark: SparkSession, tmp_path: Path) -> LakehousePaths:
    """A lakehouse with observation_points of today's contract."""
    put(spark, tmp_path, points(spark, USERS), "r1")
    return LakehousePaths.at(str(tmp_path))


def test_a_new_column_is_added_without_writing_rows(spark: SparkSession, paths: LakehousePaths) -> None:
    contract = table_contract(POINTS)
    new = Column(name="note", type="string", required=False, classification="none", description="new")
    later = replace(contract, columns=(*contract.columns, new))
    changes = column_changes(paths, later)
    assert [(change.name, change.how) for change in changes] == [("note", ADDED)]
    files = arrow_pinned(paths, POINTS, 1).num_rows
    version = migrate(spark, paths, later, changes)
    assert (version, column_changes(paths, later)) == (2, [])
    rows = arrow_pinned(paths, POINTS, version, columns=["user_id", "note"]).to_pylist()
    assert sorted((row["user_id"], row["note"]) for row in rows) == [(user, None) for user in USERS]
    assert files == len(USERS)


def test_renamed_and_wider_columns_are_written_again_and_old_versions_stay(
    spark: SparkSession, paths: LakehousePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = changed(table_contract(POINTS), "events_known", name="events_seen", former_name="events_known")
    later = changed(later, "days_past_due", type="bigint")
    later = replace(later, columns=tuple(column for column in later.columns if column.name != "reason"))
    changes = column_changes(paths, later)
    assert {change.name: (change.how, change.former) for change in changes} == {
        "events_seen": (RENAMED, "events_known int"),
        "days_past_due": (WIDENED, "days_past_due int"),
        "reason": (LEFT_OUT, "reason string"),
    }
    for module in (publish, replacing, staging):
        monkeypatch.setattr(module, "table_contract", lambda _: later, raising=False)
    version = migrate(spark, paths, later, changes)
    assert column_changes(paths, later) == []
    rows = open_pinned(spark, paths, POINTS, version)
    assert (rows.schema["days_past_due"].dataType.simpleString(), "reason" in rows.columns) == ("bigint", False)
    assert [(row["user_id"], row["events_seen"]) for row in rows.orderBy("user_id").collect()] == [
        (user, 4) for user in USERS
    ]
    former = open_pinned(spark, paths, POINTS, 1).orderBy("user_id").collect()
    assert [(row["user_id"], row["events_known"]) for row in former] == [(user, 4) for user in USERS]


def test_what_cannot_be_mended_is_refused_before_anything_changes(paths: LakehousePaths) -> None:
    contract = table_contract(POINTS)
    needed = Column(name="needed", type="int", required=True, classification="none", description="new")
    with pytest.raises(DataError, match="the contract requires needed, of which the rows"):
        column_changes(paths, replace(contract, columns=(*contract.columns, needed)))
    with pytest.raises(DataError, match="user_id is string and the contract states int, which not every value fits"):
        column_changes(paths, changed(contract, "user_id", type="int"))


def test_the_command_has_nothing_to_do_with_tables_of_today(paths: LakehousePaths) -> None:
    done = CliRunner().invoke(app, ["migrate", "--root", paths.root])
    assert (done.exit_code, latest_version(paths, POINTS)) == (0, 1)
    assert "0 of 3 tables changed" in done.output
