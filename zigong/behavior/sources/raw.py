"""Reads the files of a source mapping: every field fits its declaration, or its row is rejected with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from schemas.mappings import SourceColumn, SourceFile, SourceMapping
from zigong.behavior.sources.casts import castable, strict
from zigong.behavior.sources.faults import unreadable_file
from zigong.behavior.sources.lineage import COLUMN
from zigong.behavior.sources.masking import masked_cell, shape, shown_names
from zigong.behavior.sources.pseudonyms import pseudonymiser
from zigong.errors import DataError

_CORRUPT, REASONS = "_corrupt_record", "_reasons"
MAX_CELL, SHOWN_CELL = 65_536, 1_000  # characters: longest valid text, and longest field kept in quarantine


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """The raw files of one source.

    Attributes:
        cells: by file name, the raw fields (strings, or the types of Parquet and Delta) and ``_reasons``, empty for a
            valid row.
        good: by file name, the rows without reasons, in the types of the mapping.
        unread: by file name, columns that the file has but the mapping does not declare.
    """

    cells: Mapping[str, DataFrame]
    good: Mapping[str, DataFrame]
    unread: Mapping[str, tuple[str, ...]]


def read_raw(spark: SparkSession, mapping: SourceMapping, path: str) -> RawTables:
    """Reads the files of a mapping below ``path``.

    Raises:
        DataError: a file or a column is missing.
    """
    return raw_tables(mapping, {file.name: _cells(spark, file, path) for file in mapping.files})


def raw_tables(mapping: SourceMapping, found: Mapping[str, DataFrame]) -> RawTables:
    """Validates every field of the files, given by name as ``found_cells`` returns them, with all declared columns.

    Raises:
        DataError: a column of a typed file has a type that cannot become the declared one.
    """
    cells = {file.name: _validated(found[file.name], file) for file in mapping.files}
    good = {file.name: _typed(cells[file.name], file) for file in mapping.files}
    declared = {file.name: {column.name for column in file.columns} for file in mapping.files}
    unread = {
        name: tuple(column for column in column_names(found[name]) if column not in known)
        for name, known in declared.items()
    }
    return RawTables(cells=cells, good=good, unread=unread)


def padded(spark: SparkSession, file: SourceFile, found: DataFrame | None) -> DataFrame:
    """The rows of a file with every declared column, null where the file lacks it; no rows if there is no file."""
    rows = spark.createDataFrame([], StructType([StructField(_CORRUPT, StringType())])) if found is None else found
    return rows.select("*", *(F.lit(None).cast("string").alias(name) for name in missing_columns(file, rows)))


def counted_rows(raw: RawTables) -> tuple[int, int]:
    """The number of rows of all files, and of those that do not fit the mapping, in one pass over each file."""
    found = [
        cells.select(F.count("*").alias("rows"), F.count_if(F.size(REASONS) > 0).alias("refused")).collect()[0]
        for cells in raw.cells.values()
    ]
    return sum(row["rows"] for row in found), sum(row["refused"] for row in found)


def rejected_rows(raw: RawTables, mapping: SourceMapping, key: bytes) -> DataFrame:
    """The rows that do not fit the mapping, ready for quarantine.

    Returns:
        file_name, reasons array<string> (``missing:COL``, ``bad_cast:COL``, ``not_finite:COL``, ``below_minimum:COL``,
        ``unknown_value:COL``, ``broken_text:COL``, ``too_long:COL``, or only ``malformed_row``), identifiers (their
        pseudonyms) and payload: the declared fields as JSON, truncated, with identifiers as pseudonyms, texts masked,
        and only the shape of fields that do not fit.
    """
    pseudonym = pseudonymiser(key)
    return reduce(DataFrame.unionByName, (_rejected(raw.cells[file.name], file, pseudonym) for file in mapping.files))


def _rejected(cells: DataFrame, file: SourceFile, pseudonym: Callable[[Column], Column]) -> DataFrame:
    shown = [_shown(column, pseudonym).alias(column.name) for column in file.columns]
    bad = cells.where(F.size(REASONS) > 0).select(REASONS, F.struct(*shown).alias("row"))
    digests = [F.col("row")[column.name] for column in file.columns if column.identifier]
    return bad.select(
        F.lit(file.name).alias("file_name"),
        F.col(REASONS).alias("reasons"),
        F.array_compact(F.array(*digests).cast("array<string>")).alias("identifiers"),
        F.to_json("row").alias("payload"),
    )


def _shown(column: SourceColumn, pseudonym: Callable[[Column], Column]) -> Column:
    """The quarantined form of a field: identifiers as keyed digests, texts masked, numbers and times unchanged.

    A field that does not fit, or is in a malformed row, may hold the value of another column, such as an identifier,
    so only its shape is kept.
    """
    cell = _quoted(column)
    if column.identifier:
        return pseudonym(cell)
    fits = ~F.array_contains(REASONS, "malformed_row")
    fits &= F.forall(REASONS, lambda reason: F.substring_index(reason, ":", -1) != column.name)
    text = cell.cast("string")
    harmless = column.type in {"date", "timestamp"} or column.values
    return _shortened(F.when(fits, text if harmless else masked_cell(text)).otherwise(shape(cell)))


def _cells(spark: SparkSession, file: SourceFile, path: str) -> DataFrame:
    found = found_cells(spark, file, path)
    missing = missing_columns(file, found)
    if missing:
        names = [_printable(name) for name in column_names(found)]
        twice = _repeated_columns(missing, names)
        shown = shown_names(names, [column.name for column in file.columns])
        wrong = f"{', '.join(twice)} occurs twice" if twice else f"{', '.join(missing)} is missing"
        raise DataError(
            f"raw file {file.name} ({_where(file, path)}): column {wrong}; "
            f"found {', '.join(shown) or 'no column at all: the file is empty'}",
            action="correct the columns of the source mapping, or use the file it was written for (text in UTF-8)",
        )
    return found


def _repeated_columns(missing: tuple[str, ...], names: list[str]) -> tuple[str, ...]:
    """Missing columns that occur more than once in the header: Spark appends their position to the name."""
    numbered = {name: re.compile(re.escape(name) + r"\d+", re.IGNORECASE) for name in missing}
    return tuple(name for name in missing if sum(bool(numbered[name].fullmatch(found)) for found in names) > 1)


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() and character != "\ufffd" else "?" for character in name)


def _shortened(text: Column) -> Column:
    return F.when(F.length(text) > SHOWN_CELL, F.concat(F.substring(text, 1, SHOWN_CELL), F.lit("…"))).otherwise(text)


def found_cells(spark: SparkSession, file: SourceFile, path: str) -> DataFrame:
    """The columns of a file before validation, and a corrupt-record column for rows that cannot be parsed.

    Raises:
        DataError: the file does not exist, is empty, or does not have the declared format.
    """
    where = _where(file, path)
    try:
        return _read(spark, where, file)
    except Py4JJavaError as error:
        fault = unreadable_file(error, where)
        if fault is None:
            raise
        raise fault from error
    except AnalysisException as error:
        if "NOT_FOUND" in str(error.getCondition()) or "NOT_EXIST" in str(error.getCondition()):
            message = f"{where} does not exist{' as a Delta table' if file.format == 'delta' else ''}"
            action = "set source.path of the recipe to its folder"
        elif error.getCondition() == "UNABLE_TO_INFER_SCHEMA":
            message, action = f"{where} holds no file", "deliver the files, or correct path in the source mapping"
        else:
            message = f"{where} cannot be read as {file.format}: {error.getCondition()}"
            action = "correct path or format of the file in the source mapping"
        raise DataError(f"raw file {file.name}: {message}", action=action) from error


def column_names(found: DataFrame) -> tuple[str, ...]:
    """The columns of the file itself, without the corrupt-record column."""
    return tuple(name for name in found.columns if name != _CORRUPT)


def missing_columns(file: SourceFile, found: DataFrame) -> tuple[str, ...]:
    """Columns of the mapping that the file does not have, in the order of the mapping."""
    return tuple(column.name for column in file.columns if column.name not in found.columns)


def _where(file: SourceFile, path: str) -> str:
    return f"{path.rstrip('/')}/{file.path}" if "://" in path else str(Path(path) / file.path)


def _read(spark: SparkSession, where: str, file: SourceFile) -> DataFrame:
    if file.format == "csv":
        return _csv(spark, where, file)
    if file.format == "json":
        return _json(spark, where, file)
    return spark.read.format(file.format).load(where).withColumn(_CORRUPT, F.lit(None).cast("string"))


def _csv(spark: SparkSession, where: str, file: SourceFile) -> DataFrame:
    """All columns as text; a row with too many or too few fields is kept and marked."""
    reader = spark.read.option("header", file.header).option("sep", file.separator).option("mode", "PERMISSIVE")
    names = reader.csv(where).columns if file.header else [column.name for column in file.columns]
    schema = StructType([StructField(name, StringType()) for name in (*names, _CORRUPT)])
    # With column pruning the parser would count only the requested fields and miss malformed rows.
    reader = reader.option("columnNameOfCorruptRecord", _CORRUPT).option("columnPruning", False)
    # Files are read by position: a different column order in another file of the folder would silently swap columns.
    return reader.option("enforceSchema", not file.header).csv(where, schema=schema)


def _json(spark: SparkSession, where: str, file: SourceFile) -> DataFrame:
    """The declared fields as text; a field missing from an object is null, a broken line is kept and marked."""
    schema = StructType([StructField(name, StringType()) for name in (*(c.name for c in file.columns), _CORRUPT)])
    reader = spark.read.option("mode", "PERMISSIVE").option("columnNameOfCorruptRecord", _CORRUPT)
    return reader.json(where, schema=schema)


def _validated(found: DataFrame, file: SourceFile) -> DataFrame:
    kinds = dict(found.dtypes)
    cleaned = [
        _cleaned(column, file) if kinds[column.name] in ("string", "binary") else _quoted(column)
        for column in file.columns
    ]
    cells = found.select(*cleaned, _CORRUPT)
    _require_castable(cells, file)
    values = _values(cells, file)
    reasons = F.array_compact(
        F.array(*(reason for column in file.columns for reason in _column_reasons(column, values[column.name])))
    )
    malformed = F.when(F.col(_CORRUPT).isNotNull(), F.array(F.lit("malformed_row")))
    return cells.withColumn(REASONS, F.coalesce(malformed, reasons)).drop(_CORRUPT)


def _cleaned(column: SourceColumn, file: SourceFile) -> Column:
    """The trimmed text, null where it is a null value; invalid UTF-8 becomes a replacement character."""
    text = F.trim(F.make_valid_utf8(_quoted(column).cast("string")))
    return F.when(~text.isin("", *file.null_values), text).alias(column.name)


def _require_castable(cells: DataFrame, file: SourceFile) -> None:
    """Reports casts that Spark refuses by type, before it reads a row, with the name of the column."""
    values = _values(cells, file)
    for column in file.columns:
        kind = dict(cells.dtypes)[column.name]
        fault = DataError(
            f"raw file {file.name}: column {column.name} holds {kind}, which cannot become {column.type}",
            action="correct the type of the column in the source mapping, or deliver the declared type",
        )
        if not castable(kind, column.type):
            raise fault
        try:
            cells.select(values[column.name])
        except AnalysisException as error:
            raise fault from error


def _column_reasons(column: SourceColumn, value: Column) -> list[Column]:
    cell = _quoted(column)
    reasons = [F.when(cell.isNotNull() & value.isNull(), F.lit(f"bad_cast:{column.name}"))]
    if column.required:
        reasons.append(F.when(cell.isNull(), F.lit(f"missing:{column.name}")))
    if column.values:
        known = cell.cast("string").isin(*column.values)
        reasons.append(F.when(cell.isNotNull() & ~known, F.lit(f"unknown_value:{column.name}")))
    if column.type == "string":
        text = cell.cast("string")
        broken = F.contains(text, F.lit("\ufffd")) | F.contains(text, F.lit("\0"))
        reasons.append(F.when(broken, F.lit(f"broken_text:{column.name}")))
        reasons.append(F.when(F.length(text) > MAX_CELL, F.lit(f"too_long:{column.name}")))
    if column.minimum is not None:
        reasons.append(F.when(value < F.lit(column.minimum), F.lit(f"below_minimum:{column.name}")))
    if column.type == "double":
        finite = ~F.isnan(value) & (F.abs(value) < float("inf"))
        reasons.append(F.when(value.isNotNull() & ~finite, F.lit(f"not_finite:{column.name}")))
    return reasons


def _typed(cells: DataFrame, file: SourceFile) -> DataFrame:
    """Valid rows in the declared types; columns carry their name, so that a query that shows one is detected."""
    good = cells.where(F.size(REASONS) == 0)
    return good.select(
        *(value.alias(name, metadata={COLUMN: f"{file.name}.{name}"}) for name, value in _values(cells, file).items())
    )


def _values(cells: DataFrame, file: SourceFile) -> dict[str, Column]:
    """The typed value of each declared column, by name."""
    kinds = dict(cells.dtypes)
    return {column.name: strict(_quoted(column), kinds[column.name], column.type) for column in file.columns}


def _quoted(column: SourceColumn) -> Column:
    return F.col(f"`{column.name}`")
