"""Times with and without an offset: one that states its zone must not be taken for local time a second time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import SourceFile, SourceMapping
from zigong.behavior.sources.casts import ZONED
from zigong.behavior.sources.lineage import columns_given_to
from zigong.behavior.sources.query import stated_rows
from zigong.behavior.sources.raw import REASONS, RawTables, typed_rows
from zigong.behavior.sources.text_rows import MALFORMED, REPEATED_HEADER
from zigong.errors import DataError

_LOCAL_TO_UTC = ("to_utc_timestamp", "convert_timezone")


def local_columns(spark: SparkSession, raw: RawTables, mapping: SourceMapping) -> frozenset[str]:
    """The columns, as ``file.column``, that the SQL takes for local time: it gives them to to_utc_timestamp.

    SQL that does not run has none: whoever runs it reports that.
    """
    texts = " ".join((mapping.events_sql, mapping.profiles_sql, *(text for _, text in mapping.derived))).lower()
    if not any(function in texts for function in _LOCAL_TO_UTC):
        return frozenset()  # what is not written is not called
    found: set[str] = set()
    for section in ("events", "profiles"):
        try:
            query = stated_rows(spark, raw, mapping, section, "UTC")
        except DataError:
            continue
        found.update(columns_given_to(query, _LOCAL_TO_UTC))
    return frozenset(found)


def refuse_offsets(raw: RawTables, mapping: SourceMapping, local: Collection[str]) -> RawTables:
    """The raw tables, with the reason ``unexpected_offset:COL`` for cells with an offset that the SQL takes for local.

    Spark drops the offset when it reads the cell, so that the SQL cannot tell; a zoned column of Parquet is the same.

    Args:
        raw: as ``raw.read_raw`` returns them.
        mapping: their mapping.
        local: as ``local_columns`` returns them.
    """
    cells, good = dict(raw.cells), dict(raw.good)
    for file in mapping.files:
        kinds = dict(raw.cells[file.name].dtypes)
        zoned = [
            F.when(has_offset(F.col(f"`{column.name}`"), kinds[column.name]), f"unexpected_offset:{column.name}")
            for column in file.columns
            if f"{file.name}.{column.name}" in local and kinds[column.name] in ("string", "timestamp")
        ]
        if zoned:
            cells[file.name] = _with_reasons(raw.cells[file.name], zoned)
            good[file.name] = typed_rows(cells[file.name], file)
    return replace(raw, cells=cells, good=good)


def has_offset(cell: Column, kind: str) -> Column:
    """Whether a cell states an offset or a zone; a timestamp of Parquet or Delta is an instant, so it always does."""
    return cell.rlike(ZONED) if kind == "string" else cell.isNotNull()


def text_times(cells: DataFrame, file: SourceFile) -> list[str]:
    """The columns of a file that are read from text as timestamps."""
    kinds = dict(cells.dtypes)
    return [column.name for column in file.columns if column.type == "timestamp" and kinds[column.name] == "string"]


def _with_reasons(cells: DataFrame, more: list[Column]) -> DataFrame:
    unread = F.arrays_overlap(REASONS, F.array(F.lit(MALFORMED), F.lit(REPEATED_HEADER)))
    reasons = F.when(unread, F.col(REASONS)).otherwise(F.concat(REASONS, F.array_compact(F.array(*more))))
    return cells.withColumn(REASONS, reasons)
