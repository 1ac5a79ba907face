"""ZiGong's own build, as jobs/build_sequences runs it, without the lakehouse around it."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.builders.clock import measure_warm, print_figures
from zigong.behavior.sequences import user_sequences
from zigong.behavior.timeline import user_timelines
from zigong.lakehouse.business_time import local_midnight
from zigong.lakehouse.session import open_spark
from zigong.recipe import Engine

KEPT_EVENTS = 200_000  # no folding: the peers do not support it
EVENTS_PER_PARTITION = 400_000


def open_engine(threads: int, events: int) -> SparkSession:
    """A session as recipes have it, with partitions for the size of the input."""
    partitions = max(2, events // EVENTS_PER_PARTITION)
    return open_spark(
        Engine(spark_master=f"local[{threads}]", spark_driver_memory="4g", spark_shuffle_partitions=partitions),
        app_name="bench-sequences",
        log=Path(__file__).resolve().parents[2] / "build" / "bench" / "spark.log",
    )


def sequences(spark: SparkSession, source: str, day: date, max_events: int = KEPT_EVENTS) -> DataFrame:
    """The sequences of all users who have an event before ``day``."""
    events = spark.read.parquet(f"{source}/events").withColumn("loan_id", F.lit(None).cast("string"))
    profiles = spark.read.parquet(f"{source}/profiles")
    points = spark.read.parquet(f"{source}/users").select(
        "user_id",
        local_midnight(F.lit(day), "UTC").alias("observation_at"),
        F.lit(day).alias("observation_date"),
        F.lit(True).alias("eligible"),
        F.lit("c1").alias("population"),
        F.lit("").alias("loan_id"),
    )
    timelines = user_timelines(events, "UTC")
    built = user_sequences(timelines, profiles, points, max_events=max_events, policy_id="bench")
    return built.where("certificate.events_used > 0")


def main(source: str, target: str, day: str, threads: str) -> None:
    """Builds and reports; the warm figures are those of a second build, when Spark has compiled its code."""
    spark = open_engine(int(threads), int(Path(source, "count").read_text()))

    def build() -> None:
        built = sequences(spark, source, date.fromisoformat(day))
        built.select("user_id", "events", "certificate.events_used", "certificate.events_hash", "profile").write.mode(
            "overwrite"
        ).parquet(target)

    print_figures(measure_warm(build))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
