"""A drafted mapping loads, contains no value of its sample, and a check of it lists the open questions."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from schemas.mappings import load_mapping
from zigong.behavior.sources.check import check_source
from zigong.cli import app

PAYMENTS = (
    "client_id;payment_id;paid_on;amount;branch;NO\n7001;1;2023-01-31;12.50;007;Alpha\n7002;2;2023-02-28;8;008;\n"
)
LOGINS = '{"clientId": 7001, "at": "2023-01-01T08:00:00", "device": "phone"}\n{"clientId": 7002, "at": null}\n'


def drafted(folder: Path, *files: str) -> tuple[int, str]:
    names = [str(folder / file) for file in files]
    answer = CliRunner().invoke(app, ["source", "new", *names, "--name", "bank", "--output", str(folder / "bank.yaml")])
    return answer.exit_code, answer.output


def samples(folder: Path) -> None:
    (folder / "payments.csv").write_text(PAYMENTS)
    (folder / "logins.jsonl").write_text(LOGINS)
    pq.write_table(pa.table({"code": [1], "text": ["Alpha"]}), folder / "codes.parquet")


def test_types_identifiers_and_separators_are_inferred(tmp_path: Path) -> None:
    samples(tmp_path)
    assert drafted(tmp_path, "payments.csv", "logins.jsonl", "codes.parquet")[0] == 0
    mapping = load_mapping(tmp_path / "bank.yaml")
    payments, logins, codes = mapping.files
    assert (payments.separator, payments.format, logins.format, codes.format) == (";", "csv", "json", "parquet")
    assert {column.name: (column.type, column.required, column.identifier) for column in payments.columns} == {
        "client_id": ("string", True, True),
        "payment_id": ("string", True, True),
        "paid_on": ("date", True, False),
        "amount": ("decimal(18,2)", True, False),
        "branch": ("string", True, False),
        "NO": ("string", False, True),
    }
    assert {column.name: column.type for column in logins.columns} == {
        "clientId": "string",
        "at": "timestamp",
        "device": "string",
    }
    assert {column.name: column.type for column in codes.columns} == {"code": "bigint", "text": "string"}
    assert not any(cell in (tmp_path / "bank.yaml").read_text() for cell in ("7001", "Alpha", "phone"))


def test_a_check_of_a_draft_lists_open_questions(spark: SparkSession, tmp_path: Path) -> None:
    samples(tmp_path)
    drafted(tmp_path, "payments.csv", "logins.jsonl", "codes.parquet")
    result = check_source(spark, load_mapping(tmp_path / "bank.yaml"), str(tmp_path), timezone="UTC")
    problems = [(item.section, item.problem) for item in result.findings]
    assert ("title", "open: what this source is") in problems
    assert ("events", "open: join codes, or delete it from files") in problems
    assert ("profiles", "open: since when the attributes hold") in problems
    assert ("outcome_events", "never occur: todo") in problems
    assert [item.rows for item in result.findings if item.column == "event_at"] == [1]  # the second login has no time
    assert result.summary is not None
    assert result.summary.event_types == {"logins": 2, "payments": 2}


def test_a_file_without_keys_and_times_is_drafted_and_explained(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("colour,size\nred,1\n")
    assert drafted(tmp_path, "plain.csv")[0] == 0
    result = check_source(spark, load_mapping(tmp_path / "bank.yaml"), str(tmp_path), timezone="UTC")
    assert {("events", "user_key"), ("events", "event_at")} <= {(item.section, item.column) for item in result.findings}


def test_nothing_is_overwritten_and_unknown_files_are_refused(tmp_path: Path) -> None:
    samples(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert drafted(tmp_path, "notes.txt")[0] == 2
    (tmp_path / "list.json").write_text("[1]")
    assert drafted(tmp_path, "list.json")[0] == 3
    (tmp_path / "bank.yaml").write_text("mine")
    assert drafted(tmp_path, "payments.csv")[0] == 2
    assert (tmp_path / "bank.yaml").read_text() == "mine"
