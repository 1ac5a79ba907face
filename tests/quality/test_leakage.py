"""The leakage audit finds planted leaks, and nothing in an unchanged run."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from tests.support.finished import FinishedRun
from zigong.cli import app
from zigong.lakehouse.tables import open_pinned
from zigong.quality.leakage import leakage_violations


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tiny_run: FinishedRun) -> tuple[DataFrame, DataFrame]:
    versions = tiny_run.run.manifest()["tables"]
    names = ("user_sequences", "behavior_events")
    sequences, events = (open_pinned(spark, tiny_run.paths, name, versions[name]) for name in names)
    return sequences.localCheckpoint(), events.localCheckpoint()


def found_in(sequences: DataFrame, events: DataFrame) -> list[tuple[str, str]]:
    return sorted({(row["rule"], row["user_id"]) for row in leakage_violations(sequences, events).collect()})


def test_certificates_of_a_run_agree_with_the_log(tables: tuple[DataFrame, DataFrame]) -> None:
    assert found_in(*tables) == []


def test_an_event_known_only_after_t_is_found_in_the_row_that_used_it(tables: tuple[DataFrame, DataFrame]) -> None:
    sequences, events = tables
    victim = sequences.orderBy("user_id", "observation_at").first()
    assert victim is not None
    newest = victim["events"][-1]
    is_it = (F.col("user_id") == victim["user_id"]) & (F.col("event_at") == F.lit(newest["event_at"]))
    later = victim["observation_at"] + timedelta(days=400)
    learnt_later = events.withColumn("known_at", F.when(is_it, F.lit(later)).otherwise(F.col("known_at")))
    assert ("certificate_differs", victim["user_id"]) in found_in(sequences, learnt_later)
    assert {user for _, user in found_in(sequences, learnt_later)} == {victim["user_id"]}


def test_a_planted_future_event_is_found_in_the_row_itself(tables: tuple[DataFrame, DataFrame]) -> None:
    sequences, events = tables
    victim = sequences.orderBy("user_id", "observation_at").first()
    assert victim is not None
    mine = (F.col("user_id") == victim["user_id"]) & (F.col("observation_at") == F.lit(victim["observation_at"]))
    future = F.transform("events", lambda event: event.withField("event_at", F.col("observation_at")))
    listed = sequences.withColumn("events", F.when(mine, future).otherwise(F.col("events")))
    assert found_in(listed, events) == [("event_reaches_t", victim["user_id"])]
    reaching = F.col("certificate").withField("max_known_at", F.col("observation_at"))
    certified = sequences.withColumn("certificate", F.when(mine, reaching).otherwise(F.col("certificate")))
    assert found_in(certified, events) == [
        ("certificate_differs", victim["user_id"]),
        ("certificate_reaches_t", victim["user_id"]),
    ]


def test_the_command_counts_rows_and_reports_that_all_are_valid(tiny_run: FinishedRun, spark: SparkSession) -> None:
    answer = CliRunner().invoke(app, ["audit-leakage", tiny_run.run_id, "--root", tiny_run.root])
    assert answer.exit_code == 0, answer.output
    rows = tiny_run.run.metrics()["rows.user_sequences.published"]
    assert f"{rows:,} certificates hold" in answer.output
