"""Commits of rows that were copied or computed from published rows: made only while those are unchanged.

Delta's own conflict check sees writers that commit after a commit has begun; it cannot know that rows were read
earlier. The fence closes the gap: it is part of the written frame, so it is evaluated after the commit has begun, and
it fails if the rows have changed since the version that was read. Rows of the written table itself are thus protected
throughout; rows of another table are protected until the commit begins.
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
    """Published rows that a commit depends on.

    Attributes:
        table: table of the rows.
        version: version the rows were read at.
        partitions: partitions of the rows.
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

    A lost race is retried if the basis is in another table; the fence is evaluated again as well. Copies of the
    table's own rows are stale after a lost race, so they are not retried.

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
        f"table {table}, rows with {cells}: another writer changed published rows that these depend on: {conflict}",
        action="wait for the other run to end, then rerun with the same run id: the rows are computed again",
    )
