"""Pinned reads: one version of one table, for Spark and for Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import DataFrame, SparkSession

from zigong.errors import DataError
from zigong.lakehouse.erasures import refuse_erased
from zigong.lakehouse.paths import LakehousePaths


def published_tables(paths: LakehousePaths) -> tuple[str, ...]:
    """Names of the tables that exist, sorted."""
    folder = Path(paths.local("tables"))
    found = folder.iterdir() if folder.is_dir() else ()
    return tuple(sorted(entry.name for entry in found if DeltaTable.is_deltatable(str(entry))))


def latest_version(paths: LakehousePaths, table: str) -> int:
    """The newest published version of a table.

    Raises:
        DataError: the table was never published.
    """
    try:
        return int(DeltaTable(paths.table(table)).version())
    except TableNotFoundError as error:
        raise DataError(
            f"table {table} was never published under {paths.root}",
            action="run the step that writes it first (`zigong plan RECIPE` lists the steps)",
        ) from error


def published_version(paths: LakehousePaths, table: str) -> int | None:
    """The newest version of a table, None if it was never published."""
    path = paths.table(table)
    return int(DeltaTable(path).version()) if DeltaTable.is_deltatable(path) else None


def open_pinned(spark: SparkSession, paths: LakehousePaths, table: str, version: int) -> DataFrame:
    """One version of a table as a Spark frame; the version is explicit, never implicitly the latest.

    Raises:
        ConfigError: an erasure removed this version.
    """
    refuse_erased(paths, table, version)
    uri = paths.spark_uri(paths.table(table))
    return spark.read.format("delta").option("versionAsOf", version).load(uri)


def arrow_pinned(
    paths: LakehousePaths,
    table: str,
    version: int,
    *,
    columns: Sequence[str] | None = None,
    where: ds.Expression | None = None,
) -> pa.Table:
    """One version of a table as Arrow; partitions that ``where`` excludes are not read.

    Raises:
        ConfigError: an erasure removed this version.
        DataError: the version lacks a column, since it was written under an older contract.
    """
    dataset = pinned_dataset(paths, table, version, columns=columns or ())
    return dataset.to_table(columns=list(columns) if columns is not None else None, filter=where)


def pinned_dataset(paths: LakehousePaths, table: str, version: int, *, columns: Sequence[str] = ()) -> ds.Dataset:
    """One version of a table, opened and not read, with at least the given columns; see :func:`arrow_pinned`."""
    refuse_erased(paths, table, version)
    dataset = DeltaTable(paths.table(table), version=version).to_pyarrow_dataset()
    require_columns(table, dataset.schema.names, columns)
    return dataset


def require_columns(table: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuses a table that was written under an older contract.

    Raises:
        DataError: columns are missing; the message names them.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"table {table} has no column {', '.join(missing)}: it was written under an older contract",
            action="run `zigong migrate`, or rebuild the lakehouse under another lakehouse.root",
        )
