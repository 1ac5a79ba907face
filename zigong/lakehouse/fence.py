"""Commits of rows that were partly copied from their own table: made only while the copied rows still stand.

Delta's own check sees writers that commit after a commit has begun; it cannot know that rows were read earlier. The
fence closes the gap: it is a part of the frame that is written, so it is evaluated after the commit has begun, and it
fails when the copied partitions changed between the copied version and then. So no moment is left unwatched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from zigong.lakehouse.commits import LOST_RACES, StaleRowsError
from zigong.lakehouse.lineage import Partition, changed_partitions
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version

_MARK = "ZIGONG_COPIED_ROWS_CHANGED"


@dataclass(frozen=True, kw_only=True)
class CopiedRows:
    """Rows of a frame that are copies of published rows of the same table.

    Attributes:
        version: the version they were read at.
        partitions: where they lie.
    """

    version: int
    partitions: frozenset[Partition]


def fenced(rows: DataFrame, paths: LakehousePaths, table: str, copied: CopiedRows) -> DataFrame:
    """``rows``, whose evaluation fails once another writer has changed the copied partitions."""

    def nothing_changed(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        changed = changed_partitions(paths, table, copied.version, latest_version(paths, table))
        if changed & copied.partitions:
            raise RuntimeError(f"{_MARK} since version {copied.version}")
        yield from ()

    watch = rows.sparkSession.range(0, 1, 1, 1).mapInArrow(nothing_changed, rows.schema)
    return rows.unionByName(watch)


def make_fenced_commit(write: Callable[[], None], *, table: str, cells: str) -> None:
    """Makes one commit of fenced rows, once: after a lost race the copies are worth nothing.

    Raises:
        StaleRowsError: the race was lost.
    """
    try:
        return write()
    except (*LOST_RACES, PySparkException) as error:
        if not isinstance(error, LOST_RACES) and _MARK not in str(error):
            raise
        raise StaleRowsError(
            f"table {table}, cells {cells}: another writer changed rows that this build had copied",
            action="rerun with the same run id: the rows are made again from what is published then",
        ) from error
