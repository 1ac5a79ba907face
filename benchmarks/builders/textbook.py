"""The Spark version of the textbooks: a window finds the newest version, collect_list, and Python sorts."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType
from pyspark.sql.window import Window

from benchmarks.builders.clock import measure, print_figures
from benchmarks.builders.ours import open_engine

STATED = ("event_type", "event_at", "known_at", "amount", "currency", "days_past_due", "attributes")
KEYS = ("source", "event_id")


def sequences(spark: SparkSession, source: str, day: str) -> DataFrame:
    """The newest version of every event as of T, collected per user and sorted in Python."""
    events, profiles = spark.read.parquet(f"{source}/events"), spark.read.parquet(f"{source}/profiles")
    t = F.lit(day).cast("timestamp")
    newest = Window.partitionBy(*KEYS).orderBy(F.desc("known_at"))
    known = events.where(F.col("known_at") < t).withColumn("rank", F.row_number().over(newest))
    held = known.where((F.col("rank") == 1) & (F.col("op") == "upsert") & (F.col("event_at") < t))
    collected = held.groupBy("user_id").agg(F.collect_list(F.struct(*KEYS, *STATED)).alias("events"))
    kept = StructType([held.schema[name] for name in STATED])

    def ordered(rows: list[Row]) -> tuple[list[tuple[object, ...]], int, str]:
        visible = sorted(rows, key=lambda row: (row["event_at"], row["known_at"], row["source"], row["event_id"]))
        names = ",".join(
            f"{row['source']}\t{row['event_id']}\t{round(row['known_at'].timestamp() * 1e6)}" for row in visible
        )
        events = [tuple(row[name] for name in STATED) for row in visible]
        return events, len(visible), hashlib.sha256(names.encode()).hexdigest()

    as_sequence = F.udf(ordered, f"struct<events: array<{kept.simpleString()}>, events_used: int, events_hash: string>")
    visible = collected.withColumn("visible", as_sequence("events")).select("user_id", "visible.*")
    by_user = Window.partitionBy("user_id").orderBy(F.desc("valid_from"), F.desc("known_at"))
    profile = (
        profiles.where((F.col("valid_from") < t) & (F.col("known_at") < t))
        .withColumn("rank", F.row_number().over(by_user))
        .where("rank = 1")
        .select("user_id", F.col("attributes").alias("profile"))
    )
    return visible.join(profile, "user_id", "left")


def main(source: str, target: str, day: str, threads: str) -> None:
    """Builds once and reports."""
    spark = open_engine(int(threads), int(Path(source, "count").read_text()))
    print_figures(measure(lambda: sequences(spark, source, day).write.mode("overwrite").parquet(target)))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
