"""The columns of sequences, samples and labels of observed clients, for frames that a test builds itself."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def of_clients(rows: DataFrame) -> DataFrame:
    """Rows of one population in which clients are observed, not loans."""
    return rows.withColumns({"population": F.lit("c1"), "loan_id": F.lit("")})


def observed_clients(sequences: DataFrame) -> DataFrame:
    """Sequences of clients none of whose events names a loan.

    Args:
        sequences: with the column events.
    """
    return of_clients(sequences).withColumns(
        {
            "event_loans": F.array_repeat(F.lit(None).cast("int"), F.size("events")),
            "loans": F.lit(0),
            "loan": F.lit(None).cast("int"),
        }
    )
