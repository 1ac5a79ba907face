"""Replaces the rows of a predicate by staged ones, and takes single rows out of a table: one commit each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from zigong.errors import DataError
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.cells import Covered, at_version, covered, covering, live_files, others
from zigong.lakehouse.committer import Change, Intent, commit, rows_of
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staged_files import StagedFile
from zigong.lakehouse.staging import Stage, staged


def replace_cells(
    spark: SparkSession,
    stage: Stage,
    files: Sequence[StagedFile],
    *,
    cells: str,
    metadata: Mapping[str, Any],
    basis: Basis | None = None,
    attempt: Attempt | None = None,
    token_of: str = "",
) -> int | None:
    """Commits staged files as all rows of their table that match ``cells``.

    Args:
        files: files of ``stage``, with rows that match only.
        cells: SQL predicate over the columns of the table; null counts as false.
        metadata: userMetadata of the commit.
        basis: published rows that the new ones depend on.
        attempt: the attempt of the run that commits.
        token_of: see :class:`~zigong.lakehouse.committer.Intent`.

    Returns:
        The version; None where no row is replaced by none, so that there is no commit.
    """
    paths, contract = stage.paths, stage.contract

    def judged(opened: DeltaTable) -> Change:
        found = covered(spark, paths, contract, opened, cells)
        kept = _stayed(spark, stage, opened, found, lambda rows: rows.where(~matches(cells)))
        return Change(added=[*files, *kept], removed=found.files)

    intent = Intent(stage=stage, cells=cells, metadata=metadata, basis=basis, attempt=attempt, token_of=token_of)
    return commit(intent, judged)


def delete_rows(
    spark: SparkSession,
    paths: LakehousePaths,
    table: str,
    *,
    matching: Callable[[DataFrame], DataFrame],
    staying: Callable[[DataFrame], DataFrame],
    by: str,
    metadata: Mapping[str, Any],
) -> int:
    """Takes rows out of the newest version of a table.

    Args:
        matching: of rows of the table, those to delete; may not change their columns.
        staying: of rows of the table, all others.
        by: who deletes, for the folder of the files that are written again.
        metadata: userMetadata of the commit.

    Returns:
        The number of deleted rows.
    """
    deleted = 0
    with staged(paths, table, run_id=by, token=0) as stage:

        def judged(opened: DeltaTable) -> Change:
            nonlocal deleted
            rows = at_version(spark, paths, table, int(opened.version()))
            found = covering(table, live_files(opened), matching(rows))
            deleted = found.matching
            return Change(added=_stayed(spark, stage, opened, found, staying), removed=found.files)

        commit(Intent(stage=stage, cells=f"rows of {by}", metadata=metadata), judged)
    return deleted


def matches(cells: str) -> Column:
    """Whether a row is one of some cells."""
    return F.coalesce(F.expr(cells), F.lit(False))


def _stayed(
    spark: SparkSession, stage: Stage, opened: DeltaTable, found: Covered, staying: Callable[[DataFrame], DataFrame]
) -> list[StagedFile]:
    """Writes the other rows of mixed files again."""
    if not found.mixed:
        return []
    version, contract = int(opened.version()), stage.contract
    part = f"others-of-{version}"
    stage.write(staying(others(spark, stage.paths, contract, version, found.mixed)), part)
    files = stage.files(part)
    expected = sum(file.rows for file in found.files) - found.matching
    if rows_of(files) != expected:
        raise DataError(
            f"table {contract.name}: {expected:,} rows of version {version} stay, but {rows_of(files):,} were written",
            action="nothing was published; run the step again, and report this if it recurs",
        )
    return files
