"""Polars doing the same work on the same Parquet; it has no SHA-256, so that one hash a user is Python's."""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["POLARS_MAX_THREADS"] = sys.argv[-1]  # read when polars is imported

import polars as pl

from benchmarks.builders.clock import measure, print_figures

STATED = ("event_type", "event_at", "known_at", "amount", "currency", "days_past_due", "attributes")


def sequences(source: str, day: str) -> pl.DataFrame:
    """The newest version of every event as of T, sorted once, grouped in order."""
    t = datetime.fromisoformat(day).replace(tzinfo=UTC)
    known = pl.scan_parquet(f"{source}/events/*.parquet").filter(pl.col("known_at") < t)
    newest = known.filter(pl.col("known_at") == pl.col("known_at").max().over("source", "event_id"))
    held = newest.filter((pl.col("op") == "upsert") & (pl.col("event_at") < t))
    name = pl.concat_str("source", "event_id", pl.col("known_at").dt.epoch("us").cast(pl.String), separator="\t")
    visible = (
        held.sort("event_at", "known_at", "source", "event_id")
        .group_by("user_id", maintain_order=False)
        .agg(pl.struct(*STATED).alias("events"), pl.len().alias("events_used"), name.str.join(",").alias("names"))
    )
    profile = (
        pl.scan_parquet(f"{source}/profiles/*.parquet")
        .filter((pl.col("valid_from") < t) & (pl.col("known_at") < t))
        .sort("valid_from", "known_at")
        .group_by("user_id")
        .agg(pl.col("attributes").last().alias("profile"))
    )
    joined = visible.join(profile, on="user_id", how="left").collect()
    hashes = [hashlib.sha256(names.encode()).hexdigest() for names in joined["names"]]
    return joined.drop("names").with_columns(pl.Series("events_hash", hashes))


def main(source: str, target: str, day: str, _threads: str) -> None:
    """Builds and reports."""
    print_figures(measure(lambda: sequences(source, day).write_parquet(target, compression="snappy")))


if __name__ == "__main__":
    main(*sys.argv[1:])
