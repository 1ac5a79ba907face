"""One user with a hundred thousand events, and one day on which a third of all events became known."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from zigong.behavior.sequences import user_sequences
from zigong.behavior.timeline import user_timelines
from zigong.lakehouse.business_time import local_midnight

EVENTS, WHALE_EVENTS, USERS, KEPT = 300_000, 100_000, 2_000, 120
START, CROWDED, T = datetime(2021, 1, 1), datetime(2023, 6, 15), date(2024, 1, 1)
SECONDS = 3 * 365 * 86_400


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """The whale's events are spread over the years; every third event of any user becomes known on the crowded day."""
    number = F.col("id")
    happened = F.unix_seconds(F.lit(START)) + F.pmod(F.xxhash64("id"), F.lit(SECONDS))
    known = F.when(number % 3 == 0, F.unix_seconds(F.lit(CROWDED)) + number % 3600).otherwise(happened + 60)
    return spark.range(0, EVENTS, 1, 4).select(
        F.lit("core").alias("source"),
        F.concat(F.lit("e"), number).alias("event_id"),
        F.timestamp_seconds(known).alias("known_at"),
        F.lit("upsert").alias("op"),
        F.when(number < WHALE_EVENTS, "whale").otherwise(F.concat(F.lit("u"), number % USERS)).alias("user_id"),
        F.lit(0).alias("user_bucket"),
        F.lit(None).cast("string").alias("loan_id"),
        F.lit("login").alias("event_type"),
        F.timestamp_seconds(happened).alias("event_at"),
        F.lit(None).cast("decimal(18,2)").alias("amount"),
        F.lit(None).cast("string").alias("currency"),
        F.lit(None).cast("int").alias("days_past_due"),
        F.create_map().cast("map<string,string>").alias("attributes"),
    )


@pytest.fixture(scope="module")
def sequences(spark: SparkSession, events: DataFrame) -> DataFrame:
    points = (
        events.select("user_id")
        .distinct()
        .select(
            "user_id",
            local_midnight(F.lit(T), "UTC").alias("observation_at"),
            F.lit(T).alias("observation_date"),
            F.lit(True).alias("eligible"),
            F.lit("c1").alias("population"),
            F.lit("").alias("loan_id"),
        )
    )
    profiles = spark.createDataFrame(
        [], "source string, user_id string, valid_from timestamp, known_at timestamp, person_id string, "
        "attributes map<string,string>",
    )  # fmt: skip
    timelines = user_timelines(events, "UTC")
    return user_sequences(timelines, profiles, points, max_events=KEPT, policy_id="p").localCheckpoint()


@pytest.mark.soak
def test_no_event_of_a_skewed_log_is_lost(events: DataFrame, sequences: DataFrame) -> None:
    known = events.where((F.col("known_at") < F.lit(T)) & (F.col("event_at") < F.lit(T)))
    expected = {row["user_id"]: row["count"] for row in known.groupBy("user_id").count().collect()}
    found = {
        row["user_id"]: row["n"] for row in sequences.select("user_id", F.col("counts.events").alias("n")).collect()
    }

    assert found == expected
    assert found["whale"] > 0.99 * WHALE_EVENTS


def test_a_user_with_very_many_events_is_folded_by_complete_months(sequences: DataFrame) -> None:
    (whale,) = sequences.where("user_id = 'whale'").collect()
    times = [event["event_at"] for event in whale["events"]]

    assert times == sorted(times)
    assert len(times) == whale["counts"]["kept"] == KEPT  # its newest month alone has more than the cap
    assert whale["counts"]["folded"] == whale["counts"]["events"] - KEPT
    assert whale["certificate"]["events_used"] == whale["counts"]["events"]
