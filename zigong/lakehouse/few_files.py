"""Writes the rows of a partition in few files: without it every task writes a file of its own into every partition."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame


def gathered(rows: DataFrame, by: Sequence[str]) -> DataFrame:
    """The rows with those of one partition in one task, or in several where they are many.

    Spark balances the tasks by size while it runs (adaptive execution): small partitions share a task, and one beyond
    the advisory size (``spark.sql.adaptive.advisoryPartitionSizeInBytes``, 64 MB) is divided. So a table has about one
    file for each partition and each 64 MB, whatever the number of tasks that computed it.
    """
    return rows.hint("rebalance", *by) if by else rows
