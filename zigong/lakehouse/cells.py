"""The files of a version that hold the rows of a predicate, and those that hold other rows as well."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import TableContract
from zigong.lakehouse.paths import LakehousePaths

PLACE = "_place"


@dataclass(frozen=True, kw_only=True)
class LiveFile:
    """A file of a version.

    Attributes:
        path: its path below the table, as it is stored.
        partition: its partition values as texts, by column.
    """

    path: str
    size: int
    rows: int
    partition: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Covered:
    """The files with rows of a predicate.

    Attributes:
        whole: files all of whose rows satisfy it.
        mixed: files with other rows as well.
        matching: number of rows that satisfy it.
    """

    whole: tuple[LiveFile, ...] = ()
    mixed: tuple[LiveFile, ...] = ()
    matching: int = 0

    @property
    def files(self) -> tuple[LiveFile, ...]:
        """All of them."""
        return self.whole + self.mixed


def live_files(opened: DeltaTable) -> list[LiveFile]:
    """The files of a version."""
    prefix = "partition."
    return [
        LiveFile(
            path=unquote(row["path"]),
            size=row["size_bytes"],
            rows=row["num_records"],
            partition={
                name.removeprefix(prefix): None if value is None else str(value)
                for name, value in row.items()
                if name.startswith(prefix)
            },
        )
        for row in pa.table(opened.get_add_actions(flatten=True)).to_pylist()
    ]


def of_partitions(
    spark: SparkSession, contract: TableContract, values: Collection[dict[str, str | None]], predicate: str
) -> list[bool] | None:
    """Which of some partitions satisfy a predicate; None where it asks for other columns than those of partitions."""
    if not contract.partitions:
        return None
    types = {column.name: column.type for column in contract.columns}
    listed = {name: pa.array([value[name] for value in values], pa.string()) for name in contract.partitions}
    table = pa.table({**listed, PLACE: pa.array(range(len(values)), pa.int64())})
    typed = (F.col(name).cast(types[name]).alias(name) for name in contract.partitions)
    try:  # a relation of the driver: no job runs
        found = spark.createDataFrame(table).select(*typed, PLACE).where(predicate)
    except AnalysisException:
        return None
    chosen = {row[PLACE] for row in found.select(PLACE).collect()}
    return [index in chosen for index in range(len(values))]


def covered(
    spark: SparkSession, paths: LakehousePaths, contract: TableContract, opened: DeltaTable, predicate: str
) -> Covered:
    """The files of a version with rows that satisfy a predicate; rows are only read where partitions do not tell."""
    files = live_files(opened)
    if not files:
        return Covered()
    if predicate.strip().lower() == "true":
        return Covered(whole=tuple(files), matching=sum(file.rows for file in files))
    told = of_partitions(spark, contract, [file.partition for file in files], predicate)
    if told is not None:
        whole = tuple(file for file, matches in zip(files, told, strict=True) if matches)
        return Covered(whole=whole, matching=sum(file.rows for file in whole))
    rows = at_version(spark, paths, contract.name, int(opened.version())).where(predicate)
    return covering(contract.name, files, rows)


def covering(table: str, files: Collection[LiveFile], matching: DataFrame) -> Covered:
    """The files that hold some rows of the version they belong to.

    Args:
        matching: the rows, read from the table itself.
    """
    counted = matching.groupBy(path_of(table).alias(PLACE)).count().collect()
    counts = {row[PLACE]: row["count"] for row in counted}
    return Covered(
        whole=tuple(file for file in files if counts.get(file.path) == file.rows),
        mixed=tuple(file for file in files if counts.get(file.path) not in (None, file.rows)),
        matching=sum(counts.values()),
    )


def others(
    spark: SparkSession, paths: LakehousePaths, contract: TableContract, version: int, mixed: Collection[LiveFile]
) -> DataFrame:
    """All rows of some files of a version, with every column of the contract; only their partitions are read."""
    rows = at_version(spark, paths, contract.name, version)
    keys = {tuple(sorted(file.partition.items())) for file in mixed}
    where = F.lit(False) if contract.partitions else F.lit(True)
    for key in sorted(keys, key=repr) if contract.partitions else ():
        where = where | _is(dict(key), contract)
    return rows.where(where).where(path_of(contract.name).isin([file.path for file in mixed]))


def at_version(spark: SparkSession, paths: LakehousePaths, table: str, version: int) -> DataFrame:
    """A version that was read for a commit, so that no erasure has to be asked for."""
    uri = paths.spark_uri(paths.table(table))
    return spark.read.format("delta").option("versionAsOf", version).load(uri)


def path_of(table: str) -> Column:
    """Of each row that Spark reads from a table, the path of its file below the table, as it is stored."""
    return F.url_decode(
        F.replace(F.substring_index("_metadata.file_path", f"/tables/{table}/", -1), F.lit("+"), F.lit("%2B"))
    )


def _is(partition: dict[str, Any], contract: TableContract) -> Column:
    types = {column.name: column.type for column in contract.columns}
    found = F.lit(True)
    for name, value in partition.items():
        found = found & F.col(name).eqNullSafe(F.lit(value).cast(types[name]))
    return found
