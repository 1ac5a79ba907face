"""Quarantined rows can be listed and explained, and enter once after a rule or source is fixed."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from typer.testing import CliRunner

import zigong.runs.replay
from schemas.contracts import table_contract
from tests.support.points import CELLS, GOOD, POINTS, job_at, points
from zigong.cli import app
from zigong.console import CONSOLE
from zigong.errors import ConfigError, DataError, ZigongError
from zigong.lakehouse.audit_log import audit_entries
from zigong.lakehouse.commits import replace_rows
from zigong.lakehouse.maintain import maintain
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.replayed import QUARANTINE, unreplayed_rows
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.quality.quarantine import returning

CORRECTION = {"reason": "'no_loan'"}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONSOLE, "width", 200)


@pytest.fixture
def refused(spark: SparkSession, tmp_path: Path) -> Path:
    """A lakehouse where the run ``first`` published forty points and refused two, which lack their reason."""
    rows = points(spark, GOOD).unionByName(points(spark, ["x1", "x2"], eligible=False))
    job_at(tmp_path, "first").publish(POINTS, rows, cells=CELLS)
    return tmp_path


def users(root: Path) -> list[str]:
    paths = LakehousePaths.at(str(root))
    return sorted(
        arrow_pinned(paths, POINTS, latest_version(paths, POINTS), columns=["user_id"])["user_id"].to_pylist()
    )


def replayed_by(root: Path) -> list[str | None]:
    paths = LakehousePaths.at(str(root))
    rows = arrow_pinned(paths, QUARANTINE, latest_version(paths, QUARANTINE))
    names: list[str | None] = rows["replayed_by"].to_pylist()
    return names


def run_command(root: Path, *words: str) -> str:
    answer = CliRunner().invoke(app, ["quarantine", *words, "--root", str(root)])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_a_replay_publishes_corrected_rows_once_and_keeps_every_other_row(refused: Path) -> None:
    command = ("replay", POINTS, "--run-id", "first")
    assert "enters 0, still broken 2" in run_command(refused, *command, "--dry-run")
    assert "enters 0, still broken 2" in run_command(refused, *command)
    assert (users(refused), replayed_by(refused)) == (GOOD, [None, None])

    assert "enters 2, still broken 0" in run_command(refused, *command, "--correct", "reason='no_loan'")
    assert users(refused) == [*GOOD, "x1", "x2"]
    (name,) = set(replayed_by(refused))
    assert name is not None
    assert name.startswith(f"replay-{POINTS}-")
    entry = audit_entries(LakehousePaths.at(str(refused)))[-1]
    assert (entry.run_id, entry.action, entry.rows_published) == (name, "published", 42)

    again = CliRunner().invoke(app, ["quarantine", *command, "--root", str(refused)])
    assert again.exit_code == 3
    assert "quarantine has no row" in again.output
    assert users(refused) == [*GOOD, "x1", "x2"]


@pytest.mark.soak
@pytest.mark.usefixtures("spark")
def test_a_replay_killed_before_its_mark_is_finished_by_the_next_one(
    refused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(zigong.runs.replay, "mark_replayed", lambda *_, **__: 1 / 0)
        with pytest.raises(ZigongError, match="ZeroDivisionError"):
            zigong.runs.replay.replay(job_at(refused, "r1"), POINTS, "first", CORRECTION, dry_run=False)
    assert users(refused) == [*GOOD, "x1", "x2"]

    done = zigong.runs.replay.replay(job_at(refused, "r2"), POINTS, "first", CORRECTION, dry_run=False)

    assert done.counts == {"enters": 0, "still_broken": 0, "published_already": 2, "key_is_taken": 0}
    assert users(refused) == [*GOOD, "x1", "x2"]
    assert replayed_by(refused) == ["r2", "r2"]


def fates(spark: SparkSession, root: Path, published: DataFrame) -> dict[str, int]:
    """Fates of the rows under a contract without the rule that they broke."""
    contract = table_contract(POINTS)
    rules = tuple(rule for rule in contract.row_rules if rule.name != "reason_states_exclusion")
    rows = unreplayed_rows(spark, LakehousePaths.at(str(root)), POINTS, "first")
    return dict(returning(rows, published, replace(contract, row_rules=rules)).counts)


def test_after_a_rule_is_fixed_rows_enter_unless_their_key_is_taken(spark: SparkSession, refused: Path) -> None:
    nothing = {"enters": 0, "still_broken": 0, "published_already": 0, "key_is_taken": 0}
    assert fates(spark, refused, points(spark, GOOD)) == {**nothing, "enters": 2}
    taken = points(spark, ["x1"], eligible=True)
    assert fates(spark, refused, taken) == {**nothing, "enters": 1, "key_is_taken": 1}
    same = points(spark, ["x1"], eligible=False)
    assert fates(spark, refused, same) == {**nothing, "enters": 1, "published_already": 1}


@pytest.mark.soak
def test_a_row_refused_twice_enters_once(spark: SparkSession, tmp_path: Path) -> None:
    rows = points(spark, GOOD).unionByName(points(spark, ["x1", "x1"], eligible=False))
    job_at(tmp_path, "first").publish(POINTS, rows, cells=CELLS)
    done = zigong.runs.replay.replay(job_at(tmp_path, "r1"), POINTS, "first", CORRECTION, dry_run=False)
    assert (done.counts["enters"], done.counts["published_already"]) == (1, 1)
    assert users(tmp_path) == [*GOOD, "x1"]
    assert replayed_by(tmp_path) == ["r1", "r1"]


def test_a_correction_that_fails_on_a_value_is_reported_without_the_value(refused: Path) -> None:
    with pytest.raises(DataError, match=r"quarantine of .*CAST_INVALID_INPUT in CAST\(user_id AS INT\)") as error:
        zigong.runs.replay.replay(
            job_at(refused, "r"), POINTS, "first", {"reason": "CAST(user_id AS INT)"}, dry_run=True
        )
    assert "x1" not in str(error.getrepr(chain=True))


def test_explain_reports_that_a_run_has_no_refused_rows(spark: SparkSession, tmp_path: Path) -> None:
    job_at(tmp_path, "first").publish(POINTS, points(spark, GOOD), cells=CELLS)
    assert "quarantine has no row of run first" in run_command(tmp_path, "explain", POINTS, "--run-id", "first")


def test_explain_shows_the_rule_and_no_pseudonym(refused: Path) -> None:
    listed = run_command(refused, "ls")
    assert all(word in listed for word in (POINTS, "first", "reason_states_exclusion", "2"))
    output = run_command(refused, "explain", POINTS, "--run-id", "first")
    assert "reason_states_exclusion: 2 rows" in output
    assert "eligible = (reason IS NULL)" in output
    assert "eligible = False, reason = None" in output
    assert "x1" not in output


@pytest.mark.parametrize(
    ("table", "correction", "message"),
    [("raw_shop", {}, "holds raw rows"), ("nothing", {}, "no table"), (POINTS, {"nose": "1"}, "has no column nose")],
)
def test_a_table_that_cannot_be_replayed_is_rejected_by_name(
    tmp_path: Path, table: str, correction: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        zigong.runs.replay.replay(job_at(tmp_path, "r"), table, "first", correction, dry_run=False)


@pytest.mark.usefixtures("spark")
def test_only_the_owner_may_open_quarantine_and_upkeep_deletes_old_rows(tmp_path: Path) -> None:
    paths = LakehousePaths.at(str(tmp_path))
    for days in (1, 100):
        row = {
            "table_name": POINTS,
            "run_id": f"r{days}",
            "reasons": ["reason_states_exclusion"],
            "payload": "{}",
            "rules_version": "1",
            "quarantined_at": datetime.now(UTC) - timedelta(days=days),
            "replayed_by": None,
        }
        replace_rows(paths, QUARANTINE, [row], where=f"run_id = 'r{days}'", metadata={"run_id": f"r{days}"})
    assert stat.S_IMODE(Path(paths.table(QUARANTINE)).stat().st_mode) == 0o700
    assert maintain(paths, QUARANTINE, (), dry_run=True).expired == 0
    assert maintain(paths, QUARANTINE, (), dry_run=False).expired == 1
    rows = arrow_pinned(paths, QUARANTINE, latest_version(paths, QUARANTINE), columns=["run_id"])
    assert rows["run_id"].to_pylist() == ["r1"]
