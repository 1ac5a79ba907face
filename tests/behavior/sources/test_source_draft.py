"""A drafted mapping loads, contains no value of its sample, and a check of it lists the open questions."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from schemas.mappings import load_mapping
from zigong.behavior.sources.check import check_source
from zigong.cli import app

PAYMENTS = (
    "client_id;payment_id;paid_on;amount;branch;NO;Kanal\n7001;1;2023-01-31;12.50;007;Alpha;web\n"
    "7002;2;2023-02-28;8;007;;web\n7003;3;2023-02-28;9;008;;pos\n"
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
        "Kanal": ("string", True, False),
    }
    assert payments.columns[-1].values == ("pos", "web")
    assert {column.name: column.type for column in logins.columns} == {
        "clientId": "string",
        "at": "timestamp",
        "device": "string",
    }
    assert {column.name: column.type for column in codes.columns} == {"code": "bigint", "text": "string"}
    assert not any(cell in (tmp_path / "bank.yaml").read_text() for cell in ("7001", "Alpha", "phone"))


@pytest.mark.soak
def test_a_check_of_a_draft_lists_open_questions(spark: SparkSession, tmp_path: Path) -> None:
    samples(tmp_path)
    drafted(tmp_path, "payments.csv", "logins.jsonl", "codes.parquet")
    result = check_source(spark, load_mapping(tmp_path / "bank.yaml"), str(tmp_path), timezone="UTC")
    problems = [(item.section, item.problem) for item in result.findings]
    assert ("title", "open: what this source is") in problems
    assert ("events", "open: join codes, or delete it from files") in problems
    assert ("profiles", "open: since when the attributes hold; drafted late") in problems
    assert ("outcome_events", "never occur: todo") in problems
    assert [item.rows for item in result.findings if item.column == "event_at"] == [1]  # the second login has no time
    assert result.summary is not None
    assert result.summary.event_types == {"logins": 2, "payments": 3}


@pytest.mark.soak
def test_a_file_without_keys_and_times_is_drafted_and_explained(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("colour,size\nred,1\n")
    assert drafted(tmp_path, "plain.csv")[0] == 0
    result = check_source(spark, load_mapping(tmp_path / "bank.yaml"), str(tmp_path), timezone="UTC")
    assert {("events", "user_key"), ("events", "event_at")} <= {(item.section, item.column) for item in result.findings}


def test_nothing_is_overwritten_and_unknown_files_are_refused(tmp_path: Path) -> None:
    samples(tmp_path)
    (tmp_path / "notes.pdf").write_text("x")
    assert drafted(tmp_path, "notes.pdf")[0] == 2
    (tmp_path / "list.json").write_text("[1]")
    assert drafted(tmp_path, "list.json")[0] == 3
    (tmp_path / "bank.yaml").write_text("mine")
    assert drafted(tmp_path, "payments.csv")[0] == 2
    assert (tmp_path / "bank.yaml").read_text() == "mine"


def columns_of(folder: Path) -> dict[str, tuple[bool, str]]:
    """By column, whether it is an identifier, and its note."""
    files = load_mapping(folder / "bank.yaml").files
    return {column.name: (column.identifier, column.note) for file in files for column in file.columns}


def test_columns_that_may_identify_are_identifiers_or_carry_a_question(tmp_path: Path) -> None:
    named = "Kunde,Customer,borrower,member,loan,contractNo,Karte,Phone,mobile,E-Mail,msisdn,Full Name,counterparty"
    (tmp_path / "x.csv").write_text(
        f"{named},opaque,size,visits,contact,segment,loan_amount\n"
        + "".join(f"{'v,' * 13}q-{row},{row},{row % 2},a{row % 2}@b.de,s{row % 2},{row}.50\n" for row in range(6))
    )
    assert drafted(tmp_path, "x.csv")[0] == 0
    found = columns_of(tmp_path)
    assert all(found[name][0] for name in [*named.split(","), "opaque", "contact"])
    assert found["opaque"][1].startswith("TODO: every value is unique")
    assert found["size"] == (False, "TODO: identifier: true, if it identifies a person, a loan or a card")
    assert [found[name] for name in ("visits", "segment", "loan_amount")] == [(False, "")] * 3


@pytest.mark.parametrize(
    ("name", "content", "option"),
    [
        ("bom.csv", '\ufeff"ID","paid_on"\n1,2023-03-01\n'.encode(), {}),
        ("bank.asc", "ID;paid_on;city\n1;2023-03-01;Köln\n1;2023-03-02;Köln\n".encode("cp1252"),
         {"separator": ";", "encoding": "cp1252"}),
        ("wide.txt", "ID\tpaid_on\n1\t2023-03-01\n".encode("utf-16"), {"separator": "\t", "encoding": "utf-16"}),
        ("note.tsv", b"Export, by hand\n\nID\tpaid_on\tkind\n1\t2023-03-01\ta\n", {"separator": "\t", "skip_lines": 2}),
    ],
)  # fmt: skip
def test_a_text_file_is_drafted_in_its_own_dialect(
    tmp_path: Path, name: str, content: bytes, option: dict[str, object]
) -> None:
    (tmp_path / name).write_bytes(content)
    code, output = drafted(tmp_path, name)
    assert code == 0
    (file,) = load_mapping(tmp_path / "bank.yaml").files
    assert [(column.name, column.identifier, column.type) for column in file.columns][:2] == [
        ("ID", True, "string"),
        ("paid_on", False, "date"),
    ]
    assert {key: getattr(file, key) for key in option} == option
    assert ("skip_lines drafted" in output, "windows-1252" in output) == ("skip_lines" in option, name == "bank.asc")


def test_a_line_with_a_byte_order_mark_is_an_object(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('\ufeff{"ID": "1", "first": 1}\n{"ID": "2"}\n')
    assert drafted(tmp_path, "x.jsonl")[0] == 0
    assert list(columns_of(tmp_path)) == ["ID", "first"]


def test_the_draft_of_a_file_without_a_header_contains_no_cell(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,anna,2023-03-01\n2,berta,2023-03-02\n")
    code, output = drafted(tmp_path, "x.csv")
    assert (code, "header: false drafted" in output) == (0, True)
    assert not load_mapping(tmp_path / "bank.yaml").files[0].header
    assert not any(cell in (tmp_path / "bank.yaml").read_text() for cell in ("anna", "berta", "2023-03"))


def test_profiles_are_drafted_as_known_at_the_last_time_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("client,opened_on\na,2023-01-01\nb,2023-05-01\n")
    drafted(tmp_path, "x.csv")
    profiles = load_mapping(tmp_path / "bank.yaml").profiles_sql
    assert "min(" not in profiles
    assert profiles.count("(SELECT max(to_utc_timestamp") == 2
