"""Opens the raw files of a mapping as tables of texts, before any field is validated.

CSV and JSON files are read by :mod:`zigong.behavior.sources.records` on the workers, one file after the other, so that
every row knows its file and line; Parquet and Delta by Spark.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, LongType, StringType, StructField, StructType

from schemas.mappings import SourceFile
from zigong.behavior.sources.faults import unreadable, unreadable_file
from zigong.behavior.sources.listing import Listing, RawFile, listed, named
from zigong.behavior.sources.masking import shown_names
from zigong.behavior.sources.records import opened, records, utf_16
from zigong.behavior.sources.text_rows import (
    CORRUPT,
    DOUBLED,
    FILE,
    LINE,
    READ_ERRORS,
    TextRows,
    cause_of_unreadable,
    dialect_of,
    header_names,
)
from zigong.errors import DataError

_OWN = {CORRUPT: "string", DOUBLED: "array<string>", FILE: "string", LINE: "bigint"}


def found_cells(spark: SparkSession, file: SourceFile, path: str, only: Collection[str] | None = None) -> DataFrame:
    """The columns of a file before validation, and for each row its fault, doubled keys, file and line.

    Columns that the mapping does not declare are there by name; those of text files hold nothing.

    Args:
        only: names of the files to read; None: all.

    Returns:
        The columns of the file, ``_corrupt_record`` (null for a row that can be parsed, else ``malformed_row`` or
        ``repeated_header``), ``_doubled_keys`` (columns that a JSON object states twice with different values; null if
        there are none), ``_file`` (name of the file within the source) and ``_line`` (the line in which the row
        begins; of Parquet the number of the row), both null for Delta.

    Raises:
        DataError: the file does not exist, is empty, or does not have the declared format.
    """
    where = f"{path.rstrip('/')}/{file.path}" if "://" in path else str(Path(path) / file.path)
    if only is not None and not only:
        return padded(spark, file, None)
    try:
        if file.format in ("csv", "json"):
            return _text_cells(spark, file, _local(file, path, only))
        if file.format == "parquet" and "://" not in path:
            return _parquet_cells(spark, _chosen(listed(file, path), only), path)
        found = spark.read.format(file.format).load(where)
        return found.select("*", *(F.lit(None).cast(kind).alias(name) for name, kind in _OWN.items()))
    except Py4JJavaError as error:
        fault = unreadable_file(error, where)
        if fault is None:
            raise
        raise fault from error
    except AnalysisException as error:
        raise _unopened(error, file, where) from error


def column_names(found: DataFrame) -> tuple[str, ...]:
    """The columns of the file itself."""
    return tuple(name for name in found.columns if name not in _OWN)


def missing_columns(file: SourceFile, found: DataFrame) -> tuple[str, ...]:
    """Columns of the mapping that the file does not have, in the order of the mapping."""
    return tuple(column.name for column in file.columns if column.name not in found.columns)


def padded(spark: SparkSession, file: SourceFile, found: DataFrame | None) -> DataFrame:
    """The rows of a file with every declared column, null where the file lacks it; no rows if there is no file."""
    rows = spark.createDataFrame([], _row_type(())) if found is None else found
    return rows.select("*", *(F.lit(None).cast("string").alias(name) for name in missing_columns(file, rows)))


def _chosen(found: Listing, only: Collection[str] | None) -> Listing:
    return found if only is None else replace(found, read=tuple(item for item in found.read if item.name in only))


def _local(file: SourceFile, path: str, only: Collection[str] | None) -> Listing:
    if "://" in path:
        raise DataError(
            f"raw file {file.name}: expected a folder that all nodes see, found {path}",
            action="mount the folder on every node, or deliver Parquet",
        )
    return _chosen(listed(file, path), only)


def _parquet_cells(spark: SparkSession, found: Listing, path: str) -> DataFrame:
    """The listed files only: Spark itself would read every file of a folder, whatever its ending."""
    reader = spark.read.option("basePath", str(found.folder)) if found.several else spark.read
    rows = reader.parquet(*(str(item.path) for item in found.read))
    name = F.substring_index("_metadata.file_path", f"{quote(str(Path(path).absolute()))}/", -1)
    line = (F.col("_metadata.row_index") + 1).alias(LINE)
    nothing = (F.lit(None).cast(_OWN[own]).alias(own) for own in (CORRUPT, DOUBLED))
    return rows.select("*", *nothing, name.alias(FILE), line)


def _text_cells(spark: SparkSession, file: SourceFile, found: Listing) -> DataFrame:
    items = spark.createDataFrame(
        [(str(item.path), item.name, json.dumps(item.partition)) for item in found.read],
        "path string, name string, partition string",
    )
    declared = [column.name for column in file.columns]
    names = _column_names(file, found) if file.format == "csv" else declared
    read = tuple(name for name in declared if name in {*names, *_partitions(found)})
    rows = items.mapInArrow(TextRows(file=file, columns=read).batches, _row_type(read))
    cells = [F.col(f"`{name}`") if name in read else F.lit(None).cast("string").alias(name) for name in names]
    return rows.select(*cells, *(f"`{name}`" for name in read if name not in names), *_OWN)


def _row_type(columns: Iterable[str]) -> StructType:
    fields = [StructField(name, StringType()) for name in (*columns, CORRUPT)]
    doubled, file = StructField(DOUBLED, ArrayType(StringType())), StructField(FILE, StringType())
    return StructType([*fields, doubled, file, StructField(LINE, LongType())])


def _column_names(file: SourceFile, found: Listing) -> tuple[str, ...]:
    """The columns that every file of the folder has, then those of some; files without any text count for nothing.

    Raises:
        DataError: a declared column occurs twice, is only in some of the files, or the first line is no header.
    """
    declared = [column.name for column in file.columns]
    within = _partitions(found)
    headers = {item.name: _readable_header(item, file) for item in found.read} if file.header else {}
    headers = {name: header for name, header in headers.items() if header}
    for name, header in headers.items():
        _require_header(file, name, header, [column for column in declared if column not in within])
    somewhere = dict.fromkeys(column for header in headers.values() for column in header)
    for column in declared:
        lacking = [name for name, header in headers.items() if column not in header]
        if lacking and column in somewhere:
            raise DataError(
                f"raw file {file.name}: column {column} is missing in {named(lacking)}, but other files have it",
                action="deliver files with the same columns, or give them sections of their own in the mapping",
            )
    return tuple(somewhere) if file.header else tuple(name for name in declared if name not in within)


def _require_header(file: SourceFile, name: str, header: tuple[str, ...], declared: list[str]) -> None:
    twice = [column for column in declared if header.count(column) > 1]
    if twice:
        raise DataError(
            f"raw file {file.name} ({name}): column {', '.join(twice)} occurs twice; "
            f"found {', '.join(shown_names([printable(item) for item in header], declared))}",
            action="correct the columns of the source mapping, or use the file it was written for",
        )
    if declared and not set(declared) & set(header):  # it may be a row of data: only its shapes are shown
        found = named(shown_names([printable(item) for item in header], declared))
        raise DataError(
            f"raw file {file.name} ({name}): column {', '.join(declared)} is missing; found {found} in line "
            f"{file.skip_lines + 1}, which is no header of this mapping",
            action="check separator and encoding; use skip_lines for lines before the header, and header: false where "
            "the first line is a row",
        )


def _readable_header(item: RawFile, file: SourceFile) -> tuple[str, ...]:
    try:
        return _header(item, file)
    except READ_ERRORS as error:
        raise unreadable(str(item.path), cause_of_unreadable(error)) from None  # it may quote the first bytes


def _header(item: RawFile, file: SourceFile) -> tuple[str, ...]:
    """The names of the columns, empty for an empty file.

    Raises:
        DataError: the file is in UTF-16, and the mapping states another encoding.
    """
    if utf_16(item.path) and "16" not in file.encoding:
        raise DataError(
            f"raw file {file.name} ({item.name}) is in UTF-16; the mapping expects {file.encoding}",
            action="set encoding: utf-16 for the file, or deliver it in UTF-8",
        )
    with opened(item.path, file.encoding) as text:
        return next((header_names(record.cells) for record in records(text, dialect_of(file))), ())


def _partitions(found: Listing) -> set[str]:
    return {name for item in found.read for name in item.partition}


def printable(name: str) -> str:
    """The name of a column for messages, with question marks for characters that cannot be seen."""
    return "".join(character if character.isprintable() and character != "\ufffd" else "?" for character in name)


def _unopened(error: AnalysisException, file: SourceFile, where: str) -> DataError:
    if "NOT_FOUND" in str(error.getCondition()) or "NOT_EXIST" in str(error.getCondition()):
        message = f"{where} does not exist{' as a Delta table' if file.format == 'delta' else ''}"
        action = "set source.path of the recipe to its folder"
    elif error.getCondition() == "UNABLE_TO_INFER_SCHEMA":
        message, action = f"{where} holds no file", "deliver the files, or correct path in the source mapping"
    else:
        message = f"{where} cannot be read as {file.format}: {error.getCondition()}"
        action = "correct path or format of the file in the source mapping"
    return DataError(f"raw file {file.name}: {message}", action=action)
