"""A toy source: a mapping whose texts a test chooses, its rows, and the findings on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from schemas.mappings import SourceMapping, parse_mapping
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.column_findings import odd_columns
from zigong.behavior.sources.findings import SourceCheck, SourceFinding
from zigong.behavior.sources.raw import RawTables, read_raw
from zigong.behavior.sources.row_findings import bad_cells
from zigong.behavior.sources.sql_findings import conversion_findings
from zigong.behavior.sources.zones import local_columns, refuse_offsets

MAPPING = """
name: toy
data: public
title: toy
files:
  rows:
    path: PATH
    format: FORMAT
    columns:
      id: {type: string, required: true, identifier: true}
      client: {type: string, required: true, identifier: true}
      at: {type: AT_TYPE, required: true}
      kind: {type: string, required: true}
      amount: {type: "AMOUNT_TYPE"}
events: |
  SELECT client AS user_key, KEY AS event_key, CAST(NULL AS STRING) AS loan_key, 'upsert' AS op, kind AS event_type,
    SQL_AT AS event_at, SQL_AMOUNT AS amount, SQL_CURRENCY AS currency, CAST(NULL AS INT) AS days_past_due,
    CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM rows
profiles: |
  SELECT client AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM (SELECT DISTINCT client FROM rows)
known_at: {lag: INTERVAL 1 DAY}
outcome_events: [paid]
"""
DEFAULTS = {
    "PATH": "rows.csv",
    "FORMAT": "csv\n    separator: ';'",
    "AT_TYPE": "timestamp",
    "AMOUNT_TYPE": "decimal(18,2)",
    "KEY": "id",
    "SQL_AT": "at",
    "SQL_AMOUNT": "amount",
    "SQL_CURRENCY": "if(amount IS NULL, NULL, 'EUR')",
}


def text_of(**texts: str) -> str:
    text = MAPPING
    for name, value in {**DEFAULTS, **texts}.items():
        text = text.replace(name, value)
    return text


def mapping_of(**texts: str) -> SourceMapping:
    return parse_mapping(text_of(**texts), origin="toy.yaml")


def write(folder: Path, times: list[str], amounts: list[str], extra: list[str] | None = None) -> None:
    lines = [
        f"{n};c{n % 2};{at};paid;{amount}" for n, (at, amount) in enumerate(zip(times, amounts, strict=True), start=1)
    ]
    (folder / "rows.csv").write_text("\n".join(["id;client;at;kind;amount", *lines, *(extra or [])]) + "\n")


def checked(spark: SparkSession, folder: Path, mapping: SourceMapping, zone: str = "UTC") -> SourceCheck:
    return check_source(spark, mapping, str(folder), timezone=zone)


def of_the_sql(spark: SparkSession, folder: Path, mapping: SourceMapping, zone: str = "UTC") -> list[SourceFinding]:
    """The findings on conversions alone, which is a small part of the check."""
    return conversion_findings(spark, raw_of(spark, folder, mapping), mapping, zone)


def of_the_columns(spark: SparkSession, folder: Path, mapping: SourceMapping) -> list[SourceFinding]:
    """The findings on cells and columns alone."""
    raw, (file,) = raw_of(spark, folder, mapping), mapping.files
    local = local_columns(spark, raw, mapping)
    return [*bad_cells(raw.cells["rows"], file), *odd_columns(raw.cells["rows"], file, local)]


def raw_of(spark: SparkSession, folder: Path, mapping: SourceMapping) -> RawTables:
    raw = read_raw(spark, mapping, str(folder))
    return refuse_offsets(raw, mapping, local_columns(spark, raw, mapping))


def found(findings: Sequence[SourceFinding], column: str) -> SourceFinding:
    (finding,) = [item for item in findings if item.column == column]
    return finding
