"""Commits that rely on published rows, copied from them or computed of them: made only while those rows still stand.

Delta's own check sees writers that commit after a commit has begun; it cannot know that rows were read earlier. The
fence closes the gap: it is a part of the frame that is written, so it is evaluated after the commit has begun, and it
fails when the rows changed between the version that was read and then. So no moment is left unwatched where the rows
lie in the table that is written; rows of another table are watched up to the beginning of the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from zigong.lakehouse.commits import COMMIT_ATTEMPTS, LOST_RACES, StaleRowsError
from zigong.lakehouse.lineage import Partition, changed_partitions
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version

_MARK = "ZIGONG_BASIS_CHANGED"


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Published rows that a commit relies on.

    Attributes:
        table: where they are published.
        version: the version they were read at.
        partitions: where they lie.
    """

    table: str
    version: int
    partitions: frozenset[Partition]


def fenced(rows: DataFrame, paths: LakehousePaths, basis: Basis) -> DataFrame:
    """``rows``, whose evaluation fails once another writer has changed their basis."""

    def nothing_changed(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        changed = changed_partitions(paths, basis.table, basis.version, latest_version(paths, basis.table))
        if changed & basis.partitions:
            raise RuntimeError(f"{_MARK} since version {basis.version}")
        yield from ()

    watch = rows.sparkSession.range(0, 1, 1, 1).mapInArrow(nothing_changed, rows.schema)
    return rows.unionByName(watch)


def make_fenced_commit(write: Callable[[], None], basis: Basis, *, table: str, cells: str) -> None:
    """Makes one commit of fenced rows.

    A race lost in the table itself is tried again where the basis lies elsewhere: the fence is asked again as well.
    Copies of the table's own rows are worth nothing after a lost race.

    Raises:
        StaleRowsError: the basis has changed, or others kept winning.
    """
    for _ in range(1 if basis.table == table else COMMIT_ATTEMPTS):
        try:
            return write()
        except LOST_RACES as error:
            conflict = str(error).splitlines()[0]
        except PySparkException as error:
            if _MARK not in str(error):
                raise
            conflict = f"{basis.table} has changed since version {basis.version}"
            break
    raise StaleRowsError(
        f"table {table}, cells {cells}: another writer changed rows that these were made of: {conflict}",
        action="wait for the other run to end, then rerun with the same run id: the rows are made again",
    )
