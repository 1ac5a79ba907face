"""A check reports all problems at once, shows no raw value, and agrees with ingest."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from schemas.mappings import parse_mapping
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.findings import SourceCheck, SourceFinding
from zigong.cli import app
from zigong.errors import DataError

MAPPING = """
name: toy
data: private
title: toy
files:
  rows:
    path: rows.csv
    format: csv
    columns:
      CLIENT: {type: string, required: true, identifier: true}
      NUMBER: {type: int, required: true, identifier: true}
      AT: {type: timestamp, required: true}
      KIND: {type: string, required: true}
      AMOUNT: {type: double}
      COLOUR: {type: string, values: [red, blue]}
events: >
  SELECT CLIENT AS user_key, concat(CLIENT, '/', NUMBER) AS event_key, CAST(NULL AS STRING) AS loan_key,
    'upsert' AS op, KIND AS event_type, AT AS event_at, AMOUNT AS amount, 'EUR' AS currency,
    CAST(NULL AS INT) AS days_past_due, map('colour', COLOUR) AS attributes
  FROM rows
profiles: >
  SELECT CLIENT AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, map() AS attributes
  FROM (SELECT DISTINCT CLIENT FROM rows)
known_at: {lag: INTERVAL 30 MINUTES}
outcome_events: [paid, defaulted]
closing_events: [paid]
"""
HEADER = "CLIENT,NUMBER,AT,KIND,AMOUNT,COLOUR\n"
GOOD = (
    "anna,1,2023-03-25 22:00:00,login,,red\nanna,2,2023-03-26 22:00:00,paid,12.5,\n"
    "berta,3,2023-03-27 22:00:00,defaulted,,\n"
)
BAD = """anna,4,2023-03-25 22:00:00,paid,3,red
anna,4,2023-03-25 22:00:00,paid,4,red
anna,5,2023-03-25 22:00:00,paid,4,red
anna,5,2023-03-25 22:00:00,paid,4,red
secretname,secretnumber,2023-03-25 22:00:00,login,,red
carla,6,Montag 12,login,1x,red
carla,7,2023-03-25 22:00:00,Paid Up,,red
carla,8,1023-03-25 22:00:00,paid,,red
carla,9,2023-03-25 22:00:00,paid,,Grün7
carla,10,2023-03-25 22:00:00,paid,,red,more
,11,2023-03-25 22:00:00,paid,Infinity,
"""


def checked(spark: SparkSession, folder: Path, rows: str, mapping: str = MAPPING) -> SourceCheck:
    (folder / "rows.csv").write_text(rows)
    return check_source(spark, parse_mapping(mapping, origin="toy.yaml"), str(folder), timezone="UTC")


def summarised(findings: tuple[SourceFinding, ...]) -> set[tuple[object, ...]]:
    return {(item.section, item.column, item.problem.split(";")[0], item.rows, item.examples) for item in findings}


@pytest.mark.soak
def test_a_good_source_has_no_findings_and_a_summary(spark: SparkSession, tmp_path: Path) -> None:
    result = checked(spark, tmp_path, HEADER + GOOD)
    assert result.findings == ()
    assert result.ok
    summary = result.summary
    assert summary is not None
    assert (summary.file_rows, summary.events, summary.profiles, summary.users) == ({"rows": 3}, 3, 2, 2)
    assert summary.event_types == {"defaulted": 1, "login": 1, "paid": 1}
    assert str(summary.first_event_at) == "2023-03-25 22:00:00"
    assert str(summary.last_known_at) == "2023-03-27 22:30:00"


def test_all_problems_of_the_rows_are_reported_at_once_and_masked(spark: SparkSession, tmp_path: Path) -> None:
    result = checked(spark, tmp_path, HEADER + GOOD + BAD)
    assert summarised(result.findings) == {
        ("files: rows", "NUMBER", "bad cast", 1, ()),  # an identifier: no example at all
        ("files: rows", "AT", "bad cast", 1, ("aaaaaa 99",)),
        ("files: rows", "AMOUNT", "bad cast", 1, ("9a",)),
        ("files: rows", "COLOUR", "unknown value", 1, ("aaaa9",)),
        ("files: rows", None, "malformed row", 1, ()),
        ("files: rows", "CLIENT", "missing", 1, ()),
        ("files: rows", "AMOUNT", "not finite", 1, ("aaaaaaaa",)),
        ("events", None, "event type is a word", 1, ("aaaa aa",)),
        ("events", "event_at", "before 1970", 1, ()),
        ("events", "known_at", "before 1970", 1, ()),
        ("events", None, "exact duplicates of a row", 1, ()),
        ("events", "event_key", "duplicate keys with different contents", 1, ()),
    }
    (conflict,) = [item for item in result.findings if item.column == "event_key"]
    assert conflict.problem.endswith("differing: amount")
    assert not any(raw in str(result.findings) for raw in ("secret", "Montag", "Grün", "Paid Up"))
    assert not result.ok


def test_missing_columns_files_and_broken_sql_are_reported_together(spark: SparkSession, tmp_path: Path) -> None:
    more = (
        MAPPING.replace("events: >", "  gone: {path: gone.csv, format: csv, columns: {X: {type: int}}}\nevents: >")
        .replace("KIND AS event_type", "KINDS AS event_type")
        .replace("CAST(NULL AS STRING) AS person_key, ", "")
    )
    result = checked(spark, tmp_path, "CLIENT,NUMBER,AT,KIND,COLOUR\nanna,many,2023-03-25 22:00:00,login,red\n", more)
    problems = [(item.section, item.column, item.problem) for item in result.findings]
    assert ("files: rows", "AMOUNT", "the file has no such column; it has CLIENT, NUMBER, AT, KIND, COLOUR") in problems
    assert ("files: rows", "NUMBER", "bad cast") in problems
    assert any(section == "files: gone" and "does not exist" in text for section, _, text in problems)
    assert any(section == "events" and "KINDS" in text for section, _, text in problems)
    assert any(section == "profiles" and "must yield" in text for section, _, text in problems)
    assert len(problems) == 5
    assert result.summary is None


@pytest.mark.soak
def test_sql_that_fails_on_a_row_is_reported_without_its_value(spark: SparkSession, tmp_path: Path) -> None:
    mapping = MAPPING.replace("CAST(NULL AS INT) AS days", "CAST(KIND AS INT) AS days")
    result = checked(spark, tmp_path, HEADER + "anna,1,2023-03-25 22:00:00,hidden,,red\n", mapping)
    (finding,) = result.findings
    assert (finding.section, finding.column, finding.rows) == ("events", "days_past_due", None)
    assert "CAST_INVALID_INPUT in CAST(KIND AS INT)" in finding.problem
    assert "hidden" not in str(finding)


@pytest.mark.soak
def test_null_keys_far_years_and_absent_outcomes_are_reported(spark: SparkSession, tmp_path: Path) -> None:
    mapping = MAPPING.replace("CLIENT AS user_key, concat", "nullif(CLIENT, 'anna') AS user_key, concat").replace(
        "[paid, defaulted]", "[payed, paid]"
    )
    rows = HEADER + "anna,1,2023-03-25 22:00:00,paid,,red\nberta,2,9000-01-01 00:00:00,login,,red\n"
    findings = checked(spark, tmp_path, rows, mapping).findings
    assert summarised(findings) == {
        ("events", "user_key", "null", 1, ()),
        ("events", "event_at", "far future", 1, ()),
        ("events", "known_at", "far future", 1, ()),
        ("outcome_events", None, "never occur: payed", None, ()),
    }
    assert [item.blocking for item in findings if item.section == "outcome_events"] == [False]


@pytest.mark.soak
@pytest.mark.parametrize("broken", [False, True])
def test_the_command_answers_with_the_exit_code_and_needs_no_spark_to_answer_again(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "rows.csv").write_text(HEADER + GOOD + (BAD if broken else ""))
    (tmp_path / "toy.yaml").write_text(MAPPING)
    command = ["source", "check", str(tmp_path / "toy.yaml"), "--path", str(tmp_path)]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == (DataError.exit_code if broken else 0)
    assert ("rows of 11 kinds would go to quarantine" if broken else "3 of 2 users") in " ".join(answer.output.split())
    assert "secret" not in answer.output
    assert "checking files: rows" in answer.output
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "toy.yaml", "cache"}
    kept = "".join(path.read_text() for path in (tmp_path / "cache").rglob("*.json"))
    assert not any(raw in kept for raw in ("anna", "secret", "Montag"))

    with monkeypatch.context() as patched:
        patched.setattr("zigong.lakehouse.session.open_spark", lambda *_, **__: 1 / 0)
        again = CliRunner().invoke(app, command)
        assert "unchanged since the last check" in again.output
        assert (again.exit_code, again.output.splitlines()[-6:]) == (answer.exit_code, answer.output.splitlines()[-6:])
        (tmp_path / "rows.csv").write_text(HEADER + GOOD + GOOD)
        assert isinstance(CliRunner().invoke(app, command).exception, ZeroDivisionError)
