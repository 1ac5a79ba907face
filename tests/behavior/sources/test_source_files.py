"""Files as they come are read alike by check and ingest: dialects, encodings, headers inside, partition folders."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from schemas.mappings import SourceMapping, parse_mapping
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.ingest import events_from, read_raw, rejected_rows

KEY = b"a-key-for-these-tests-only"
MAPPING = """
name: toy
data: public
title: toy
files:
  month: {path: month, format: csv, columns: {COLUMNS}}
  plain: {path: plain, format: csv, header: false, columns: {COLUMNS}}
  latin: {path: latin.asc, format: csv, separator: ";", skip_lines: 2, encoding: windows-1252, columns: {COLUMNS}}
  lines: {path: lines.jsonl, format: json, columns: {COLUMNS}}
  parts: {path: parts, format: csv, columns: {COLUMNS, branch: {type: string}}}
  flat: {path: flat, format: parquet, columns: {COLUMNS, branch: {type: string}}}
  none: {path: none.csv, format: csv, columns: {COLUMNS}}
events: >
  SELECT id AS user_key, concat_ws('|', id, note, _line) AS event_key, CAST(NULL AS STRING) AS loan_key, 'upsert' AS op,
    'paid' AS event_type, TIMESTAMP'2023-03-01' AS event_at, CAST(1 AS DECIMAL(18,2)) AS amount, 'EUR' AS currency,
    CAST(NULL AS INT) AS days_past_due, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM month
profiles: >
  SELECT id AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes FROM month GROUP BY id
known_at: {lag: INTERVAL 1 DAY}
outcome_events: [paid]
max_refused_share: 1
""".replace("COLUMNS", "id: {type: string, required: true, identifier: true}, note: {type: string}")
FILES = {
    "month/a.csv": 'id,note,more\na,"two\nlines",1\nID,Note,More\nb,"says ""x"", so",1\nb,y,1\nb,y,1\n',
    "month/b.csv": "\ufeffnote,id\nswapped,c\n",
    "month/_hidden.csv": "id,note\nh,h\n",
    "month/old/c.csv": "id,note\no,o\n",
    "month/a.csv.bak": "id,note\na,old\n",
    "plain/a.csv": "p,x\n",
    "plain/b.csv": "id,note\nq,y\n",
    "lines.jsonl": '\ufeff{"id": "j", "note": 12345678901234567.890}\n\n{"id": "k"\n'
    '{"id": 1.0, "note": {"a": [1.50, "x", null]}}\n{"id": "half", "note": "\\ud800"}\n[1]\n',
    "parts/branch=007/x.csv": "id,note\nr,x\n",
    "parts/branch=2023-01/x.csv": "id,note\ns,x\n",
    "none.csv": "id,note\n",
}


@pytest.fixture(scope="module")
def mapping() -> SourceMapping:
    return parse_mapping(MAPPING, origin="toy.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, newline="")
    (folder / "latin.asc").write_bytes("a note\nof two lines\nid;note\nm;Größe\n".encode("cp1252"))
    for branch in ("01", "2"):
        (folder / "flat" / f"branch={branch}").mkdir(parents=True)
        rows = pa.table({"id": [f"f{branch}"], "note": ["x"]})
        pq.write_table(rows, folder / "flat" / f"branch={branch}" / "x.parquet")
    (folder / "flat" / "readme.md").write_text("no data")
    return folder


def test_cells_are_what_rfc_4180_and_the_mapping_say(spark: SparkSession, mapping: SourceMapping, folder: Path) -> None:
    raw = read_raw(spark, mapping, str(folder))
    found = {name: sorted(tuple(row)[:-1] for row in frame.collect()) for name, frame in raw.good.items()}
    assert found == {
        "month": [("a", "two\nlines"), ("b", 'says "x", so'), ("b", "y"), ("b", "y"), ("c", "swapped")],
        "plain": [("p", "x"), ("q", "y")],
        "latin": [("m", "Größe")],
        "lines": [("1.0", '{"a":[1.50,"x",null]}'), ("j", "12345678901234567.890")],
        "parts": [("r", "x", "007"), ("s", "x", "2023-01")],
        "flat": [("f01", "x", "01"), ("f2", "x", "2")],
        "none": [],
    }
    assert raw.unread["month"] == ("more",)
    refused = [(row["reasons"], json.loads(row["payload"])) for row in rejected_rows(raw, mapping, KEY).collect()]
    assert sorted((reasons[0], row["_file"], row["_line"]) for reasons, row in refused) == [
        ("broken_text:note", "lines.jsonl", 5),
        ("malformed_row", "lines.jsonl", 3),
        ("malformed_row", "lines.jsonl", 6),
        ("repeated_header", "month/a.csv", 4),
        ("repeated_header", "plain/b.csv", 1),
    ]


def test_the_line_of_a_row_tells_twins_apart(spark: SparkSession, mapping: SourceMapping, folder: Path) -> None:
    raw = read_raw(spark, mapping, str(folder))
    twins = {row["_line"]: row["note"] for row in raw.good["month"].where("id = 'b'").collect()}
    assert twins == {5: 'says "x", so', 6: "y", 7: "y"}
    events = events_from(spark, raw, mapping, key=KEY, buckets=4, timezone="UTC")
    assert events.select("event_id").distinct().count() == 5


@pytest.mark.soak
def test_the_check_lists_the_rows_of_every_file_and_names_the_others(
    spark: SparkSession, mapping: SourceMapping, folder: Path
) -> None:
    result = check_source(spark, mapping, str(folder), timezone="UTC")
    assert result.summary is not None
    assert result.summary.read_files == {
        "month/a.csv": 5,
        "month/b.csv": 1,
        "plain/a.csv": 1,
        "plain/b.csv": 2,
        "parts/branch=007/x.csv": 1,
        "parts/branch=2023-01/x.csv": 1,
        "flat/branch=01/x.parquet": 1,
        "flat/branch=2/x.parquet": 1,
    }
    unread = {
        (item.problem.rpartition(": ")[2], item.blocking) for item in result.findings if "not read" in item.problem
    }
    assert unread == {
        ("month/_hidden.csv", True),
        ("month/old/c.csv", True),
        ("month/a.csv.bak", False),
        ("flat/readme.md", False),
    }
    (empty,) = [item for item in result.findings if item.section == "files: none"]
    assert not empty.blocking  # ingest accepts a delivery without such rows
