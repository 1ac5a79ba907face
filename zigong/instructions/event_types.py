"""Lists the event types that sequences contain."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def event_types(sequences: DataFrame) -> list[str]:
    """The distinct event types of the given sequences, sorted.

    Args:
        sequences: rows of user_sequences.
    """
    distinct = sequences.select(F.explode("events.event_type").alias("event_type")).distinct()
    return sorted(row["event_type"] for row in distinct.collect())
