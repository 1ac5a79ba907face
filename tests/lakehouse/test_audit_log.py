"""The audit log: every modification is detected and reported, and every fact is logged once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from schemas.contracts import table_contract
from tests.support.audit_facts import fact
from tests.support.finished import REPOSITORY
from tests.support.points import POINTS, points, put
from zigong.cli import app
from zigong.errors import ConflictError, DataError
from zigong.lakehouse import audit_log
from zigong.lakehouse.audit_chain import (
    Break,
    Entry,
    Fact,
    chain_break,
    head_of,
    linked,
)
from zigong.lakehouse.audit_log import append_facts, audit_entries, delta_id, log_publish, publish_fact
from zigong.lakehouse.commits import metadata_text, own_commits
from zigong.lakehouse.maintain import maintain
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.verify_audit_log import verify_audit_log

APPENDERS, FACTS = 3, 5
OUTCOME = {
    "step": "s",
    "table": "t",
    "cells": "true",
    "verdict": "passed",
    "version": -1,
    "quarantined": 0,
    "dropped": {},
    "lineage": None,
    "rules_version": "1",
}
APPENDER = """
import sys
from zigong.lakehouse.audit_chain import Fact
from zigong.lakehouse.audit_log import append_facts
from zigong.lakehouse.paths import LakehousePaths
for number in range(int(sys.argv[3])):
    fact = Fact(action="erased", run_id=sys.argv[2], step="erase", table_name="t", cells=str(number))
    append_facts(LakehousePaths.at(sys.argv[1]), [fact])
"""


@pytest.fixture
def paths(spark: SparkSession, tmp_path: Path) -> LakehousePaths:
    """An empty lakehouse; Spark reads the contract's types when the log is made."""
    return LakehousePaths.at(str(tmp_path))


def test_concurrent_appenders_form_one_chain(paths: LakehousePaths) -> None:
    append_facts(paths, [fact(0)])
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen([sys.executable, "-c", APPENDER, paths.root, f"w{number}", str(FACTS)], env=environment)
        for number in range(APPENDERS)
    ]
    assert [process.wait() for process in processes] == [0] * APPENDERS
    entries = audit_entries(paths)
    assert chain_break(entries) is None
    expected = {(f"w{number}", str(item)) for number in range(APPENDERS) for item in range(FACTS)}
    assert {(entry.run_id, entry.cells) for entry in entries[1:]} == expected
    assert len(entries) == 1 + APPENDERS * FACTS


def test_an_appender_that_loses_retries_and_finally_gives_up(
    paths: LakehousePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, rivals = audit_log._commit, iter(range(100, 200))

    def overtaken(opened: DeltaTable, entries: list[Entry]) -> None:
        """Another appender commits between this one's reading and its commit."""
        theirs = [fact(next(rivals))]
        commit(DeltaTable(opened.table_uri), linked(head_of(audit_entries(paths)), theirs, at=entries[0].at, actor="x"))
        monkeypatch.setattr(audit_log, "_commit", commit)
        commit(opened, entries)

    monkeypatch.setattr(audit_log, "_commit", overtaken)
    append_facts(paths, [fact(1)])
    assert [entry.run_id for entry in audit_entries(paths)] == ["r100", "r1"]
    monkeypatch.setattr(audit_log, "_commit", overtaken)
    monkeypatch.setattr(audit_log, "APPEND_ATTEMPTS", 1)
    with pytest.raises(ConflictError, match="audit_log, rows with the next seq: 1 attempts lost"):
        append_facts(paths, [fact(2)])
    assert verify_audit_log(paths).broken is None


def test_no_writer_may_change_the_log_and_maintenance_keeps_it(paths: LakehousePaths) -> None:
    for number in (1, 2, 3, 2):
        append_facts(paths, [fact(number)])
    before = audit_entries(paths)
    assert [entry.rows_dropped for entry in before] == [1, 2, 3]
    with pytest.raises(Exception, match="append-only"):
        DeltaTable(paths.table("audit_log")).delete("seq = 2")
    assert maintain(paths, "audit_log", (), retain_hours=0, dry_run=False).files_after == 1
    append_facts(paths, [fact(4)])
    assert audit_entries(paths)[:3] == before
    assert verify_audit_log(paths).head.seq == 4


def test_the_actor_is_the_configured_one_or_else_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGONG_ACTOR", "airflow@lender")
    assert audit_log.actor() == "airflow@lender"
    monkeypatch.delenv("ZIGONG_ACTOR")
    known = subprocess.run(["id", "-un"], capture_output=True, check=True, text=True).stdout.strip()
    assert audit_log.actor() == known


def rewritten(paths: LakehousePaths, entries: list[Entry]) -> None:
    """The log after someone with write access to its files has replaced it."""
    table = paths.table("audit_log")
    schema = pa.schema(DeltaTable(table).schema().to_arrow())
    DeltaTable(table).alter.set_table_properties({"delta.appendOnly": "false"})
    write_deltalake(table, pa.Table.from_pylist([vars(entry) for entry in entries], schema=schema), mode="overwrite")


def committed(paths: LakehousePaths, run_id: str, rows: int) -> Fact:
    """Makes a commit as publish does, without Spark; returns the fact expected in the log."""
    outcome = {**OUTCOME, "run_id": run_id, "rows_in": rows, "published": rows}
    properties = CommitProperties(custom_metadata={"userMetadata": metadata_text(outcome)})
    Path(paths.table("t")).mkdir(parents=True, exist_ok=True)
    write_deltalake(paths.table("t"), pa.table({"x": [rows]}), mode="append", commit_properties=properties)
    version = DeltaTable(paths.table("t")).version()
    return publish_fact({**outcome, "version": version}, delta_id(paths, "t"))


@pytest.mark.soak
def test_publishes_and_blocks_are_logged_once(spark: SparkSession, paths: LakehousePaths, tmp_path: Path) -> None:
    bad = points(spark, ["c"], eligible=False)
    good = points(spark, [f"u{number}" for number in range(20)])
    done = put(spark, tmp_path, good.unionByName(bad), "r1", dropped={"duplicate": 2})
    for _ in range(2):
        with pytest.raises(DataError, match="audit blocked"):
            put(spark, tmp_path, points(spark, ["b", "b"]), "r2")
    put(spark, tmp_path, points(spark, ["y"]), "r1")  # finds its own commit

    entries = audit_entries(paths)
    logged = [(e.seq, e.action, e.run_id, e.version, e.verdict, e.rows_in, e.rows_published) for e in entries]
    assert logged == [
        (1, "published", "r1", done.version, "passed", 23, 20),
        (2, "blocked", "r2", None, "blocked", 2, 0),
    ]
    assert [(e.rows_quarantined, e.rows_dropped) for e in entries] == [(1, 2), (0, 0)]
    assert {e.rules_version for e in entries} == {table_contract(POINTS).rules_version}
    assert {e.table_id for e in entries} == {DeltaTable(paths.table(POINTS)).metadata().id}
    verified = verify_audit_log(paths, head_of(entries[:1]))
    assert (verified.broken, verified.matched, verified.unavailable, verified.before) == (None, 1, 0, 0)


def test_a_rerun_logs_commits_that_a_kill_left_unlogged(paths: LakehousePaths) -> None:
    append_facts(paths, [fact(1)])
    first = committed(paths, "r1", 2)  # killed before it was logged
    other = committed(paths, "r2", 3)
    missing = Break(place="table t, version 0", expected="an entry of run r1", found="none in the log")
    assert verify_audit_log(paths).broken == missing
    second = committed(paths, "r1", 4)
    for _ in range(2):
        outcome = {**OUTCOME, "run_id": "r1", "rows_in": 4, "published": 4, "version": second.version}
        log_publish(paths, outcome, own_commits(paths, "t", "r1"))
    assert [entry.fact for entry in audit_entries(paths)] == [fact(1), first, second]
    outcome = {**OUTCOME, "run_id": "r2", "rows_in": 3, "published": 3, "version": other.version}
    log_publish(paths, outcome, own_commits(paths, "t", "r2"))
    assert verify_audit_log(paths).matched == 3


def test_a_rewritten_chain_is_detected_by_the_commits(paths: LakehousePaths) -> None:
    facts = [committed(paths, "r1", 2), committed(paths, "r2", 3)]
    append_facts(paths, facts)
    at = audit_entries(paths)[0].at

    def found(*logged: Fact) -> Break | None:
        rewritten(paths, linked(head_of([]), logged, at=at, actor="x"))
        return verify_audit_log(paths).broken

    assert found(*facts) is None
    assert found(replace(facts[0], rows_published=7), facts[1]) == Break(
        place="entry 1: table t, version 0: rows_published", expected="2, as in the commit", found="7"
    )
    assert found(*facts, replace(facts[1], run_id="r9")) == Break(
        place="entry 3: table t, version 1",
        expected="a commit of run r9, verdict passed",
        found="run r2, verdict passed",
    )
    assert found(*facts, replace(facts[1], version=2)) == Break(
        place="entry 3: table t, version 2", expected="a commit of run r2", found="none up to 1"
    )
    unchanged = replace(facts[1], run_id="r3", rows_published=0, rows_in=0)  # empty cells stayed empty: no commit
    assert found(*facts, unchanged) is None


def test_tables_that_were_deleted_and_commits_older_than_the_log_are_counted(paths: LakehousePaths) -> None:
    published = replace(fact(1), action="published", table_id="another", version=3)
    metadata = {"userMetadata": '{"run_id": "r0", "verdict": "passed"}'}
    Path(paths.table("t")).mkdir(parents=True)
    write_deltalake(
        paths.table("t"),
        pa.table({"x": [1]}),
        commit_properties=CommitProperties(custom_metadata=metadata),
    )
    append_facts(paths, [published])
    found = verify_audit_log(paths)
    assert (found.broken, found.matched, found.unavailable, found.before) == (None, 0, 1, 1)


def test_the_command_prints_the_head_and_ends_with_the_code_of_bad_data(paths: LakehousePaths) -> None:
    append_facts(paths, [fact(1), fact(2)])
    kept = head_of(audit_entries(paths))
    command = ["audit-log", "verify", "--root", paths.root]
    fine = CliRunner().invoke(app, [*command, "--expect-head", str(kept)])
    assert fine.exit_code == 0, fine.output
    assert f"head {kept}" in fine.output
    rewritten(paths, audit_entries(paths)[:1])
    assert CliRunner().invoke(app, command).exit_code == 0
    cut = CliRunner().invoke(app, [*command, "--expect-head", str(kept)])
    assert cut.exit_code == DataError.exit_code
    assert f"breaks at entry 2, the expected head: expected {kept}, found 1:" in cut.output
    assert CliRunner().invoke(app, [*command, "--expect-head", "2:abc"]).exit_code == 2


def test_the_list_is_filtered_by_table_and_run(paths: LakehousePaths) -> None:
    append_facts(paths, [fact(1), fact(2), replace(fact(3), table_name="other")])
    for arguments, runs in ((("--table", "t"), "12"), (("--run-id", "r3"), "3"), ((), "123")):
        output = CliRunner().invoke(app, ["audit-log", "ls", "--root", paths.root, *arguments]).output
        assert [number for number in "123" if f"r{number}" in output] == list(runs)
