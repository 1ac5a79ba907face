"""What an ingest publishes although somebody should know of it is a warning of its outcome, and counted."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.ingest_events import ingest_events
from tests.support.bank import MAPPING as BANK
from tests.support.bank import Bank
from tests.support.finished import TINY
from zigong.lakehouse.deliveries import deliveries_of
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.job import runs_folder
from zigong.runs.launch import run_step
from zigong.runs.run import open_run

pytestmark = pytest.mark.usefixtures("spark")

MAPPING = """
name: toy
data: public
title: toy
files:
  rows:
    path: rows.json
    format: json
    columns:
      id: {type: string, required: true, identifier: true}
      client: {type: string, required: true, identifier: true}
      amount: {type: "decimal(18,2)"}
      note: {type: string}
events: |
  SELECT client AS user_key, concat(id, '/', row_number() OVER (PARTITION BY client ORDER BY client)) AS event_key,
    CAST(NULL AS STRING) AS loan_key, 'upsert' AS op, 'paid' AS event_type, TIMESTAMP'2023-03-01' AS event_at,
    amount AS amount, 'EUR' AS currency, CAST(NULL AS INT) AS days_past_due,
    CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM rows
profiles: |
  SELECT client AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM (SELECT DISTINCT client FROM rows)
known_at: {lag: INTERVAL 1 DAY}
outcome_events: [paid]
"""
BOOKINGS = [f"c{number},e{number},2023-03-05 10:00:00,payment,{number}," for number in range(6)]
CLIENTS = [f"c{number},2023-03-01 00:00:00,Rome" for number in range(6)]
NIGHT = date(2023, 3, 10)


@pytest.mark.soak
def test_placeholders_shared_keys_doubled_json_keys_and_order_dependent_sql_are_warnings(tmp_path: Path) -> None:
    clients = [f"c{number}" for number in range(40)] + ["Unknown"] * 30
    rows = [json.dumps({"id": f"i{place}", "client": client, "amount": 1}) for place, client in enumerate(clients)]
    rows += [
        '{"id": "i98", "client": "c1", "amount": 12345678901234567.89, "amount": 7}',
        '{"id": "i99", "client": "c2", "amount": 8, "note": {"a": 1, "a": 2}}',
        '{"id": "i97", "client": "c3", "amount": 9, "amount": 9, "unread": 1, "unread": 2}',
    ]
    (tmp_path / "rows.json").write_text("\n".join(rows) + "\n")
    (tmp_path / "toy.yaml").write_text(MAPPING)
    settings = [f"lakehouse.root={tmp_path / 'lake'}", f"source.path={tmp_path}", "source.simulation=null"]
    recipe = load_recipe(TINY, [*settings, f"source.mapping={tmp_path / 'toy.yaml'}"])
    outcome = run_step("ingest_events", ingest_events, open_run(recipe, runs_folder(recipe), "toy"), None)
    assert outcome.kind == "ok", outcome.message
    assert [warning.partition(";")[0] for warning in outcome.warnings] == [
        "events: row_number() depends on the order of the rows: 36 differ and tie in its ORDER BY",
        "files: rows, client: holds `Unknown`, a placeholder and not an id: all its rows would share one key (30 rows)",
        "files: rows, amount: the key occurs twice in an object, with different values",
        "files: rows, note: the key occurs twice in an object, with different values",
        "events, user_key: one user_key holds 41% of the rows",
    ]
    paths = LakehousePaths.at(recipe.lakehouse.root)
    published = arrow_pinned(paths, "behavior_events", latest_version(paths, "behavior_events"))
    assert sorted(map(str, published["amount"].to_pylist()))[-3:] == ["7.00", "8.00", "9.00"]


@pytest.mark.soak
def test_a_night_refuses_rows_that_repeat_each_other_as_an_ingest_of_everything_does(tmp_path: Path) -> None:
    bank = Bank(home=tmp_path, mapping=BANK.replace("max_refused_share: 1", "max_refused_share: 0.2"))
    new = [f"c{number},n{number},2023-03-10 10:00:00,payment,{number}," for number in range(6)]
    outcome = bank.ingest("many", [row for row in new for _ in range(3)], CLIENTS, night=NIGHT)
    assert (outcome.kind, outcome.code) == ("data", 3)
    assert "12 of 18 events are exact duplicates of others" in outcome.message
    assert bank.rows("behavior_events") == []


@pytest.mark.soak
def test_an_ingest_of_everything_counts_and_names_the_published_rows_that_it_rewrites(
    spark: SparkSession, tmp_path: Path
) -> None:
    bank = Bank(home=tmp_path)
    assert bank.ingest("first", BOOKINGS, CLIENTS).warnings == []
    assert bank.ingest("same", BOOKINGS, CLIENTS).warnings == []
    changed = [BOOKINGS[0].replace(",0,", ",70,"), *BOOKINGS[2:], "c0,e9,2023-03-06 10:00:00,payment,9,"]
    outcome = bank.ingest("changed", changed, CLIENTS[:5])
    assert [warning.partition(":")[2].partition(":")[0].strip() for warning in outcome.warnings] == [
        "this ingest without dates changes 1 and removes 1 of 6 published rows",
        "this ingest without dates changes 0 and removes 1 of 6 published rows",
    ]
    assert [warning.partition(":")[0] for warning in outcome.warnings] == [
        "table behavior_events", "table user_profiles",
    ]  # fmt: skip
    metrics = json.loads((tmp_path / "lake" / "_runs" / "changed" / "metrics.json").read_text())
    kinds = ("added", "changed", "removed")
    assert [metrics[f"rows.behavior_events.{kind}"] for kind in kinds] == [1, 1, 1]
    assert [metrics[f"rows.user_profiles.{kind}"] for kind in kinds] == [0, 0, 1]
    assert [item.events.changed for item in deliveries_of(bank.paths, "bank")] == [0, 0, 1]
