"""A lag in days is calendar days of the business time zone; one in hours is hours."""

from __future__ import annotations

from datetime import datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from zigong.lakehouse.business_time import later_by

LAST_MOMENT_BEFORE_SPRING = datetime(2023, 3, 25, 22, 59, 59, 999999)  # the end of 25 March in Berlin
BEFORE_AUTUMN = datetime(2023, 10, 28, 21, 30)  # 23:30 of 28 October in Berlin
SECOND_HALF_PAST_TWO = datetime(2023, 10, 29, 1, 30)  # the hour that occurs twice, its second time


@pytest.mark.parametrize(
    ("instant", "lag", "known"),
    [
        (LAST_MOMENT_BEFORE_SPRING, "INTERVAL 1 DAY", datetime(2023, 3, 26, 21, 59, 59, 999999)),  # 23 hours
        (BEFORE_AUTUMN, "INTERVAL 1 DAYS", datetime(2023, 10, 29, 22, 30)),  # 25 hours
        (LAST_MOMENT_BEFORE_SPRING, "INTERVAL 24 HOURS", datetime(2023, 3, 26, 22, 59, 59, 999999)),
        (SECOND_HALF_PAST_TWO, "INTERVAL 0 DAYS", SECOND_HALF_PAST_TWO),
    ],
)
def test_a_lag_in_days_keeps_the_time_of_the_day_where_clocks_change(
    spark: SparkSession, instant: datetime, lag: str, known: datetime
) -> None:
    frame = spark.createDataFrame([(instant,)], "at timestamp")
    (row,) = frame.select(later_by(F.col("at"), lag, "Europe/Berlin").alias("known_at")).collect()
    assert row["known_at"] == known
