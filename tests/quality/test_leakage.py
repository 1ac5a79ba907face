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
from zigong.quality.leakage import leakage_violations, profile_violations, static_profile_share


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
    assert f"{rows:,} certificates hold: events and profiles" in answer.output
    assert "not proven: that the source's known_at is true" in answer.output
    assert "every client has one profile version" not in answer.output  # some of the simulated lender's have two


def test_a_profile_that_was_not_known_before_t_is_found_and_the_run_s_own_are_not(
    spark: SparkSession, tiny_run: FinishedRun, tables: tuple[DataFrame, DataFrame]
) -> None:
    sequences, _ = tables
    profiles = open_pinned(
        spark, tiny_run.paths, "user_profiles", tiny_run.run.manifest()["tables"]["user_profiles"]
    ).localCheckpoint()
    assert profile_violations(sequences, profiles).count() == 0
    victim = sequences.orderBy("user_id", "observation_at").first()
    assert victim is not None
    his = F.col("user_id") == victim["user_id"]
    later = F.lit(victim["observation_at"] + timedelta(days=400))
    learnt_later = profiles.withColumn("known_at", F.when(his, later).otherwise(F.col("known_at")))
    found = profile_violations(sequences, learnt_later).collect()
    assert {(row["rule"], row["user_id"]) for row in found} == {("profile_differs", victim["user_id"])}
    first = (F.col("observation_at") == F.lit(victim["observation_at"])) & his
    other = F.map_concat(F.col("profile"), F.create_map(F.lit("fee"), F.lit("charged")))
    planted = sequences.withColumn("profile", F.when(first, other).otherwise(F.col("profile")))
    (row,) = profile_violations(planted, profiles).collect()
    assert (row["user_id"], row["observation_at"]) == (victim["user_id"], victim["observation_at"])
    assert "charged" not in f"{row['expected']} {row['found']}"


@pytest.mark.parametrize(
    ("profiles", "share"),
    [
        ("('a', 1, 1), ('b', 2, 1)", 1.0),
        ("('a', 1, 1), ('b', 5, 1)", 0.5),
        ("('a', 1, 1), ('b', 2, 1), ('b', 6, 1)", 0.5),
        ("('a', 1, 0), ('b', 2, 0)", None),
    ],
    ids=["known by the first event", "one known later", "one with two versions", "no attributes"],
)
def test_profiles_of_one_early_version_are_counted(spark: SparkSession, profiles: str, share: float | None) -> None:
    known = spark.sql(
        f"SELECT user_id, timestamp_seconds(known) AS known_at, "  # noqa: S608
        f"IF(filled = 1, map('k', 'v'), map()) AS attributes FROM VALUES {profiles} AS t(user_id, known, filled)"
    )
    known_events = "VALUES ('a', 1), ('a', 9), ('b', 3) AS t(user_id, known)"
    events = spark.sql(f"SELECT user_id, timestamp_seconds(known) AS known_at FROM {known_events}")  # noqa: S608
    assert static_profile_share(known, events) == share
