"""Every format of a mapping yields the same fields, and a row that cannot be read goes to quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from pyspark.sql import SparkSession

from schemas.mapping_file import Format
from schemas.mappings import SourceMapping, parse_mapping
from zigong.behavior.sources.ingest import read_raw, rejected_rows
from zigong.errors import DataError

KEY = b"a-key-for-these-tests-only"
MAPPING = """
name: toy
data: private
title: toy
files:
  rows:
    path: rows
    format: FORMAT
    columns:
      CLIENT: {type: string, required: true, identifier: true}
      AT: {type: timestamp, required: true}
      AMOUNT: {type: "decimal(18,2)"}
events: SELECT 1
profiles: SELECT 1
known_at: {lag: INTERVAL 0 SECONDS}
outcome_events: [paid]
"""
ROWS = [("anna", "2023-03-25 22:00:00", "12.50"), ("berta", "2023-03-26 08:00:00", None)]


def mapping_of(kind: str) -> SourceMapping:
    return parse_mapping(MAPPING.replace("FORMAT", kind), origin="toy.yaml")


@pytest.mark.parametrize("kind", get_args(Format))
def test_all_formats_yield_the_same_typed_rows(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    frame = spark.createDataFrame(ROWS, "CLIENT string, AT string, AMOUNT string")
    frame.write.format(kind).option("header", True).save(str(tmp_path / "rows"))
    raw = read_raw(spark, mapping_of(kind), str(tmp_path))
    rows = raw.good["rows"].orderBy("CLIENT").collect()
    assert [(row["CLIENT"], str(row["AT"]), str(row["AMOUNT"])) for row in rows] == [
        ("anna", "2023-03-25 22:00:00", "12.50"),
        ("berta", "2023-03-26 08:00:00", "None"),
    ]
    assert rejected_rows(raw, mapping_of(kind), KEY).count() == 0


def test_a_broken_json_line_is_quarantined_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    good = [{"CLIENT": "anna", "AT": "2023-03-25 22:00:00", "AMOUNT": 12.5, "MORE": {"x": 1}}, {"CLIENT": "berta"}]
    lines = [*map(json.dumps, good), '{"CLIENT": "carla", "AT": "2023-', "no json", "", '{"CLIENT": "dora", "AT": "x"}']
    (tmp_path / "rows").write_text("\n".join(lines) + "\n")
    raw = read_raw(spark, mapping_of("json"), str(tmp_path))
    rejected = rejected_rows(raw, mapping_of("json"), KEY).collect()
    broken = [row for row in rejected if "malformed_row" in row["reasons"]]
    assert len(broken) == 2
    assert sorted(reason for row in rejected if row not in broken for reason in row["reasons"]) == [
        "bad_cast:AT",
        "missing:AT",
    ]
    assert not any("carla" in row["payload"] for row in rejected)
    assert raw.cells["rows"].count() == raw.good["rows"].count() + len(rejected) == 5


@pytest.mark.parametrize("kind", get_args(Format))
def test_a_missing_file_of_any_format_is_named(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"raw file rows: .*rows does not exist"):
        read_raw(spark, mapping_of(kind), str(tmp_path))


def test_a_folder_without_a_delta_log_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    with pytest.raises(DataError, match="rows does not exist as a Delta table"):
        read_raw(spark, mapping_of("delta"), str(tmp_path))
