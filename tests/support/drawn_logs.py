"""Random logs as Spark frames, their observation dates, and the same logs after a correction of some days."""

from __future__ import annotations

import random
from dataclasses import astuple, replace
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import parse_mapping
from tests.support import naive_history as naive

TIMEZONE = "Europe/Berlin"
DATES = [date(2023, month, 1) for month in (2, 4, 5, 8, 11)]
FIXED = (naive.midnight(date(2023, 4, 10)), naive.midnight(date(2023, 4, 20)))  # days that the source corrects
MAPPING = parse_mapping(
    """
    {name: toy, data: private, title: toy, files: {}, events: SELECT 1, profiles: SELECT 1,
     known_at: {column: known_at}, outcome_events: [statement, closed], closing_events: [closed]}
    """,
    origin="toy",
)


def as_events(spark: SparkSession, log: list[naive.Version]) -> DataFrame:
    columns = "source string, event_id string, known string, op string, user_id string, event_type string, "
    rows = [(*astuple(v)[:2], str(v.known_at), *astuple(v)[3:6], str(v.event_at), *astuple(v)[7:]) for v in log]
    columns += "event string, days_past_due int, word string, loan_id string"
    frame = spark.createDataFrame(rows, columns).repartition(4)
    return frame.select(
        "source",
        "event_id",
        F.timestamp_micros(F.col("known").cast("bigint")).alias("known_at"),
        "op",
        "user_id",
        F.lit(0).alias("user_bucket"),
        "loan_id",
        "event_type",
        F.timestamp_micros(F.col("event").cast("bigint")).alias("event_at"),
        F.lit("measured").alias("known_at_basis"),
        F.lit(None).cast("decimal(18,2)").alias("amount"),
        F.lit(None).cast("string").alias("currency"),
        "days_past_due",
        F.map_filter(F.create_map(F.lit("word"), "word"), lambda _, word: word.isNotNull()).alias("attributes"),
    )


def as_profiles(spark: SparkSession, profiles: list[naive.Profile]) -> DataFrame:
    frame = spark.createDataFrame(
        [astuple(p) for p in profiles], "user_id string, v bigint, k bigint, person_id string, word string"
    )
    return frame.select(
        F.lit("core").alias("source"),
        "user_id",
        F.timestamp_micros("v").alias("valid_from"),
        F.timestamp_micros("k").alias("known_at"),
        "person_id",
        F.create_map(F.lit("word"), "word").alias("attributes"),
    )


def corrected(log: list[naive.Version]) -> list[naive.Version]:
    """The log after versions of some days were withdrawn, restated, moved to another user, or invented."""
    draw = random.Random(11)  # noqa: S311
    result = []
    for number, version in enumerate(log):
        if not FIXED[0] <= version.known_at < FIXED[1] or draw.random() < 0.6:
            result.append(version)
            continue
        kind = draw.choice(("gone", "restated", "microsecond", "moved", "earlier", "new"))
        if kind == "restated":
            result.append(replace(version, days_past_due=77))
        elif kind == "microsecond":
            result.append(replace(version, event_at=version.event_at + 1))
        elif kind == "moved":
            result.append(replace(version, user_id=draw.choice(log).user_id))
        elif kind == "earlier":
            result.append(replace(version, known_at=version.known_at - 1))
        elif kind == "new":
            result += [version, replace(version, event_id=f"late-{number}")]
    return result
