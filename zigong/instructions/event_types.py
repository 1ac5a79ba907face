"""Which event types sequences tell of."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def event_types(sequences: DataFrame) -> list[str]:
    """The distinct event types of some sequences, sorted.

    Args:
        sequences: rows of user_sequences.
    """
    distinct = sequences.select(F.explode("events.event_type").alias("event_type")).distinct()
    return sorted(row["event_type"] for row in distinct.collect())
