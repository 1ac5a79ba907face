"""The age of a table is that of its newest row that was known by then; rows of the future make nothing fresh."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.quality.measures import AuditContext, Measurement, measured
from zigong.quality.rows import REASONS

AS_OF = datetime(2023, 6, 1, tzinfo=UTC)


def freshness(spark: SparkSession, *known_at: str) -> Measurement:
    contract = table_contract("behavior_events")
    rows = spark.createDataFrame([], contract.ddl).withColumn(REASONS, F.array().cast("array<string>"))
    times = spark.createDataFrame([(text,) for text in known_at], "t string").select(F.col("t").cast("timestamp"))
    some = times.select(F.col("t").alias("known_at"), F.array().cast("array<string>").alias(REASONS))
    rows = rows.unionByName(some, allowMissingColumns=True)
    return measured(rows, contract, AuditContext(run_id="r", as_of=AS_OF)).of_rules["events_are_fresh"]


@pytest.mark.parametrize("future", ["2023-06-01 00:00:00.000001", "2093-06-01"])
def test_a_row_known_after_as_of_does_not_make_a_silent_source_fresh(spark: SparkSession, future: str) -> None:
    assert freshness(spark, "2023-02-01", future).observed == pytest.approx(120)


def test_rows_known_after_as_of_alone_are_neither_evaluated_nor_excused(spark: SparkSession) -> None:
    found = freshness(spark, "2093-06-01")
    assert (found.observed, found.excused, found.note) == (None, False, "no time up to 2023-06-01 to count from")
