"""Rows that were copied or computed from published rows: committed only while those are unchanged.

The basis is compared in the version that a commit is judged on. A commit makes exactly the next version, so that rows
of the written table itself are protected throughout; rows of another table are protected until the commit begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from zigong.lakehouse.commits import StaleRowsError
from zigong.lakehouse.lineage import Partition, changed_partitions
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version


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


def require_unchanged(paths: LakehousePaths, basis: Basis, *, table: str, cells: str, version: int) -> None:
    """Refuses rows whose basis has changed.

    Args:
        table: the table they are to be committed in.
        cells: what they replace; for the message.
        version: the version of that table that the commit is judged on.

    Raises:
        StaleRowsError: another writer has changed the basis.
    """
    now = version if basis.table == table else latest_version(paths, basis.table)
    if changed_partitions(paths, basis.table, basis.version, now) & basis.partitions:
        raise StaleRowsError(
            f"table {table}, rows with {cells}: another writer changed published rows that these depend on: "
            f"{basis.table} has changed since version {basis.version}",
            action="wait for the other run to end, then rerun with the same run id: the rows are computed again",
        )
