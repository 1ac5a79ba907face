"""The input of the sequence benchmarks: `data.py FOLDER EVENTS THREADS` simulates a lender of about that many events.

Ids are SHA-256 digests, as long as the pseudonyms of a lakehouse and as hard to compress, made in Spark without a key.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.builders.clock import measure, print_figures
from benchmarks.builders.ours import open_engine
from zigong.behavior.simulate import simulate_lender
from zigong.behavior.sources.pseudonyms import user_bucket
from zigong.recipe.sections import Simulation

EVENTS_PER_USER, MONTHS, BUCKETS = 76, 36, 8


def write_input(spark: SparkSession, folder: Path, events: int) -> int:
    """Writes raw files, events/, profiles/, users/ and count below ``folder``; returns the number of event versions."""
    simulation = Simulation(users=max(1, events // EVENTS_PER_USER), months=MONTHS)
    simulate_lender(spark, simulation, seed=3, folder=str(folder / "raw"))
    versions = _events(spark.read.parquet(str(folder / "raw" / "events.parquet")))
    versions.write.mode("overwrite").parquet(str(folder / "events"))
    profiles = _profiles(spark.read.parquet(str(folder / "raw" / "profiles.parquet")))
    profiles.write.mode("overwrite").parquet(str(folder / "profiles"))
    profiles.select("user_id").distinct().write.mode("overwrite").parquet(str(folder / "users"))
    count: int = spark.read.parquet(str(folder / "events")).count()
    shutil.rmtree(folder / "raw")
    (folder / "count").write_text(str(count))
    return count


def _events(raw: DataFrame) -> DataFrame:
    words = F.map_filter(
        F.create_map(*(item for name in ("channel", "category", "usage", "timing") for item in (F.lit(name), name))),
        lambda _, value: value.isNotNull(),
    )
    # Repetitions go before the digests come: raw keys are short, and a shuffle of digests would fill the disk.
    return raw.dropDuplicates(["event_key", "known_at"]).select(
        F.lit("simulated").alias("source"),
        _digest("event_key").alias("event_id"),
        "known_at",
        "op",
        _digest("user_key").alias("user_id"),
        user_bucket(_digest("user_key"), BUCKETS).alias("user_bucket"),
        "event_type",
        "event_at",
        "amount",
        "currency",
        "days_past_due",
        words.alias("attributes"),
        F.to_date("known_at").alias("known_date"),
    )


def _profiles(raw: DataFrame) -> DataFrame:
    names = ("income", "age", "region", "job")
    return raw.select(
        F.lit("simulated").alias("source"),
        _digest("user_key").alias("user_id"),
        "valid_from",
        "known_at",
        _digest("person_key").alias("person_id"),
        F.create_map(*(item for name in names for item in (F.lit(name), name))).alias("attributes"),
    )


def _digest(column: str) -> Column:
    return F.sha2(column, 256)


def main(folder: str, events: str, threads: str) -> None:
    """Writes and reports."""
    spark = open_engine(int(threads), int(events))
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")  # Polars compares no INT96
    figures = measure(lambda: write_input(spark, Path(folder), int(events)))
    print_figures({**figures, "events": float(Path(folder, "count").read_text())})
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
