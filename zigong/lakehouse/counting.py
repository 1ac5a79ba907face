"""Counts rows while they are computed, so that what comes out of a transform is compared with what was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from zigong.errors import DataError

_ROWS = "rows"


@dataclass(frozen=True, kw_only=True)
class RowsRead:
    """The rows of a delivery, counted where they were read.

    Attributes:
        rows: number of rows read.
        outside: how many of them lie outside the dates of the run, and are neither published nor refused.
        carried: published rows that are published again with them, since they are in the same partitions; not part of
            ``rows``.
    """

    rows: int
    outside: int = 0
    carried: int = 0


class CountedRows:
    """Rows that are counted by the query that computes them, without a pass of their own.

    Attributes:
        frame: the rows, to be computed by exactly one query.
    """

    def __init__(self, rows: DataFrame, **conditions: Column) -> None:
        """Counts ``rows``, and those of them that satisfy each named condition."""
        self._seen, self._read = Observation(), rows
        self._counts = [
            F.count(F.lit(1)).alias(_ROWS),
            *(F.count_if(condition).alias(name) for name, condition in conditions.items()),
        ]
        self.frame = rows.observe(self._seen, *self._counts)

    @property
    def rows(self) -> int:
        """Number of rows; waits for the query."""
        return self.count(_ROWS)

    def count(self, name: str) -> int:
        """Number of rows that satisfy a condition; waits for the query."""
        try:
            return int(self._seen.get.get(name, 0))  # Spark observes nothing where it knows that there is no row
        except Py4JJavaError:  # Spark has left the part of the plan out that observes, since it yields no row
            (counted,) = self._read.agg(*self._counts).collect()
            return int(counted[name])


def require_all_accounted(
    table: str, read: RowsRead, *, kept: int, quarantined: int, dropped: Mapping[str, int]
) -> None:
    """Compares the rows that were read with what became of them.

    Args:
        kept: rows to publish, those carried over among them.

    Raises:
        DataError: rows are missing or doubled.
    """
    published, lost = kept - read.carried, sum(dropped.values())
    if published + quarantined + lost + read.outside != read.rows:
        raise DataError(
            f"table {table}: {read.rows:,} rows were read, but {published:,} are to be published, {quarantined:,} "
            f"quarantined, {lost:,} dropped and {read.outside:,} lie outside the dates",
            action="nothing was published; run the step again, and report this with the log of the run if it recurs",
        )
