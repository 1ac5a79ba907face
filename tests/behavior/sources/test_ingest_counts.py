"""Every raw row becomes an event, or is quarantined or dropped with a reason; raw ids never leave ingest."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from schemas.mappings import SourceMapping, parse_mapping
from zigong.behavior.sources.ingest import deduplicated, events_from, profiles_from, read_raw, rejected_rows
from zigong.behavior.sources.pseudonyms import pseudonymiser
from zigong.errors import ConfigError, DataError

KEY = b"a-key-for-these-tests-only"
MAPPING = """
name: toy
data: private
title: toy
files:
  rows:
    path: rows.csv
    format: csv
    null_values: [nan]
    columns:
      CLIENT: {type: string, required: true, identifier: true}
      NUMBER: {type: int, required: true, identifier: true}
      AT: {type: timestamp, required: true}
      KIND: {type: string, required: true, values: [login, order]}
      AMOUNT: {type: double}
events: >
  SELECT CLIENT AS user_key, concat(CLIENT, '/', NUMBER) AS event_key, CAST(NULL AS STRING) AS loan_key,
    'upsert' AS op, KIND AS event_type, AT AS event_at, AMOUNT AS amount, 'EUR' AS currency,
    CAST(NULL AS INT) AS days_past_due, map('place', CAST(NULL AS STRING), 'size', 'a{b}') AS attributes
  FROM rows
profiles: >
  SELECT CLIENT AS user_key, to_utc_timestamp(TIMESTAMP'2023-01-01', :timezone) AS valid_from,
    TIMESTAMP'2023-01-01' AS known_at, CAST(NULL AS STRING) AS person_key, map() AS attributes
  FROM (SELECT DISTINCT CLIENT FROM rows)
known_at: {lag: INTERVAL 30 MINUTES}
outcome_events: [order]
"""
ROWS = """CLIENT,NUMBER,AT,KIND,AMOUNT,IGNORED
anna,1,2023-03-25 22:00:00,login,,x
anna,2,2023-03-25 22:45:00,order,12.5,x
anna,2,2023-03-25 22:45:00,order,12.5,x
anna,2,2023-03-25 22:45:00,order,13.5,x
anna,2,2023-03-25 22:45:00,order,13.5,x
,3,2023-03-25 22:45:00,order,1,x
berta,many,2023-03-25 22:45:00,order,1,x
berta,5,nan,order,1,x
berta,6,2023-03-25 22:45:00,dance,1,x
berta,7,2023-03-25 22:45:00,login,Infinity,x
berta,8,2023-03-25 22:45:00,login,1,x,too,many
berta,9,2023-03-27 10:00:00,login, ,x
"""


@pytest.fixture(scope="module")
def mapping() -> SourceMapping:
    return parse_mapping(MAPPING, origin="toy.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    (folder / "rows.csv").write_text(ROWS)
    return folder


def ingested(spark: SparkSession, mapping: SourceMapping, folder: Path) -> DataFrame:
    raw = read_raw(spark, mapping, str(folder))
    return events_from(spark, raw, mapping, key=KEY, buckets=4, timezone="Europe/Berlin")


def test_rejected_rows_name_every_reason_and_hide_identifiers(
    spark: SparkSession, mapping: SourceMapping, folder: Path
) -> None:
    rows = rejected_rows(read_raw(spark, mapping, str(folder)), mapping, KEY).collect()
    assert sorted(tuple(row["reasons"]) for row in rows) == [
        ("bad_cast:NUMBER",),
        ("malformed_row",),
        ("missing:AT",),
        ("missing:CLIENT",),
        ("not_finite:AMOUNT",),
        ("unknown_value:KIND",),
    ]
    payloads = [json.loads(row["payload"]) for row in rows]
    berta = hmac.new(KEY, b"berta", hashlib.sha256).hexdigest()
    assert {payload.get("CLIENT") for payload in payloads} == {berta, None}
    assert not any("berta" in row["payload"] or "many" in row["payload"] for row in rows)


def test_rows_in_are_published_quarantined_or_dropped(
    spark: SparkSession, mapping: SourceMapping, folder: Path
) -> None:
    raw = read_raw(spark, mapping, str(folder))
    versions = deduplicated(ingested(spark, mapping, folder))
    kept, dropped, conflicting = (part.count() for part in (versions.kept, versions.duplicates, versions.conflicting))
    assert (kept, dropped, conflicting) == (3, 2, 1)
    rejected = rejected_rows(raw, mapping, KEY).count()
    assert raw.cells["rows"].count() == kept + dropped + conflicting + rejected == len(ROWS.splitlines()) - 1


def test_the_kept_version_does_not_depend_on_the_order_of_rows(
    spark: SparkSession, mapping: SourceMapping, folder: Path
) -> None:
    events = ingested(spark, mapping, folder).localCheckpoint()
    forward, backward = (deduplicated(events.orderBy(order)).kept.collect() for order in ("amount", F.desc("amount")))
    assert sorted(map(str, forward)) == sorted(map(str, backward))


def test_versions_that_differ_by_a_microsecond_conflict(
    spark: SparkSession, mapping: SourceMapping, folder: Path
) -> None:
    (kept,) = deduplicated(ingested(spark, mapping, folder)).kept.limit(1).collect()
    event = spark.createDataFrame([kept], table_contract("behavior_events").ddl)
    moved = event.withColumn("event_at", F.col("event_at") + F.expr("INTERVAL 1 MICROSECOND"))
    versions = deduplicated(event.unionByName(moved))
    assert [part.count() for part in (versions.kept, versions.duplicates, versions.conflicting)] == [1, 0, 1]


def test_events_have_the_contracts_columns_pseudonyms_and_local_dates(
    spark: SparkSession, mapping: SourceMapping, folder: Path
) -> None:
    events = ingested(spark, mapping, folder)
    contract = table_contract("behavior_events")
    assert events.dtypes == spark.createDataFrame([], contract.ddl).dtypes
    by_id = {row["event_id"]: row for row in events.collect()}
    late = by_id[hmac.new(KEY, b"anna/2", hashlib.sha256).hexdigest()]
    assert late["user_id"] == hmac.new(KEY, b"anna", hashlib.sha256).hexdigest()
    assert late["user_bucket"] == int(late["user_id"][:8], 16) % 4
    assert late["known_date"] == date(2023, 3, 26)  # 23:15 UTC is past midnight in Berlin
    assert late["known_at_basis"] == "assumed"
    assert late["attributes"] == {"size": "a{b}"}
    assert late["loan_id"] is None


def test_profiles_have_the_contracts_columns(spark: SparkSession, mapping: SourceMapping, folder: Path) -> None:
    raw = read_raw(spark, mapping, str(folder))
    profiles = profiles_from(spark, raw, mapping, key=KEY, timezone="Europe/Berlin")
    assert profiles.dtypes == spark.createDataFrame([], table_contract("user_profiles").ddl).dtypes
    assert profiles.count() == 2


def test_the_key_appears_in_no_query_plan(spark: SparkSession, mapping: SourceMapping, folder: Path) -> None:
    plan = ingested(spark, mapping, folder)._jdf.queryExecution().toString()
    assert "keyed_digest" in plan
    assert KEY.decode() not in plan


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="16"):
        pseudonymiser(b"short")


def test_a_missing_file_and_a_missing_column_are_named(
    spark: SparkSession, mapping: SourceMapping, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"rows\.csv does not exist"):
        read_raw(spark, mapping, str(tmp_path))
    (tmp_path / "rows.csv").write_text("CLIENT,NUMBER,AT,KIND\n")
    with pytest.raises(DataError, match="AMOUNT is missing; found CLIENT, NUMBER, AT, KIND"):
        read_raw(spark, mapping, str(tmp_path))


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (("AT AS event_at,", "ATT AS event_at,"), "SQL of events does not run.*ATT"),
        (("'EUR' AS currency,", ""), "events must yield .*currency"),
    ],
)
def test_broken_sql_of_a_mapping_names_the_mapping(
    spark: SparkSession, folder: Path, broken: tuple[str, str], complaint: str
) -> None:
    mapping = parse_mapping(MAPPING.replace(*broken), origin="toy.yaml")
    with pytest.raises(DataError, match=f"toy.yaml.*{complaint}"):
        ingested(spark, mapping, folder)


SHOWN = "'size', 'a{b}'"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("CLIENT", "rows.CLIENT"),
        ("concat('no ', NUMBER)", "rows.NUMBER"),
        ("substring(CAST(struct(CLIENT, KIND) AS STRING), 1, 9)", "rows.CLIENT"),
        ("(SELECT max(CLIENT) FROM rows)", "rows.CLIENT"),
    ],
)
def test_an_identifier_in_the_attributes_is_refused_by_name(
    spark: SparkSession, folder: Path, value: str, shown: str
) -> None:
    mapping = parse_mapping(MAPPING.replace(SHOWN, f"'size', {value}"), origin="toy.yaml")
    with pytest.raises(DataError, match=f"attributes of events exposes {shown}, which the mapping declares"):
        ingested(spark, mapping, folder)


@pytest.mark.parametrize(
    "value",
    [
        "if(NUMBER IS NULL, 'none', 'some')",
        "row_number() OVER (PARTITION BY CLIENT ORDER BY AT)",
        "lag(KIND) OVER (PARTITION BY CLIENT ORDER BY AT)",
        "struct(CLIENT, KIND).KIND",
    ],
)
def test_values_computed_next_to_an_identifier_do_not_expose_it(spark: SparkSession, folder: Path, value: str) -> None:
    mapping = parse_mapping(MAPPING.replace(SHOWN, f"'size', {value}"), origin="toy.yaml")
    assert "attributes" in ingested(spark, mapping, folder).columns


def test_free_text_is_masked_in_attributes_and_in_quarantine(
    spark: SparkSession, mapping: SourceMapping, tmp_path: Path
) -> None:
    card, phone = "4111 1111 1111 1111", "13800138000"
    (tmp_path / "rows.csv").write_text(
        "CLIENT,NUMBER,AT,KIND,AMOUNT\n"
        f"anna,1,2023-03-25 22:00:00,login,1\nanna,2,{card},login,{phone}\nanna,3,1,4,2023-03-25 22:00:00,login,1\n"
    )
    noted = parse_mapping(MAPPING.replace(SHOWN, f"'size', 'with {card}'"), origin="toy.yaml")
    (event,) = ingested(spark, noted, tmp_path).collect()
    assert event["attributes"] == {"size": "with <CARD>"}
    rows = rejected_rows(read_raw(spark, mapping, str(tmp_path)), mapping, KEY).collect()
    payloads = sorted((json.loads(row["payload"]) for row in rows), key=lambda payload: str(payload["AT"]))
    assert [(payload["AT"], payload["KIND"], payload["AMOUNT"]) for payload in payloads] == [
        ("9", "9", "9999-99-99 99:99:99"),
        ("9999 9999 9999 9999", "login", "<PHONE>"),
    ]
