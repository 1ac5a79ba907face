"""Reads the files of a source mapping: a cell is what the mapping declares, or its row is rejected by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from schemas.mappings import SourceColumn, SourceFile, SourceMapping
from zigong.behavior.lineage import IDENTIFIER
from zigong.behavior.masking import masked_cell, shape
from zigong.behavior.pseudonyms import pseudonymiser
from zigong.errors import DataError

_CORRUPT, REASONS = "_corrupt_record", "_reasons"


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """The raw files of one source, cell by cell.

    Attributes:
        cells: by file name, the raw cells (strings, or the types of parquet and Delta) and ``_reasons``, empty for a
            good row.
        good: by file name, the rows without reasons in the types of the mapping.
    """

    cells: Mapping[str, DataFrame]
    good: Mapping[str, DataFrame]


def read_raw(spark: SparkSession, mapping: SourceMapping, path: str) -> RawTables:
    """Reads the files of a mapping below ``path``.

    Raises:
        DataError: a file or a column is missing.
    """
    return raw_tables(mapping, {file.name: _cells(spark, file, path) for file in mapping.files})


def raw_tables(mapping: SourceMapping, found: Mapping[str, DataFrame]) -> RawTables:
    """Judges every cell of the files, given by name as ``found_cells`` returns them, with all declared columns."""
    cells = {file.name: _judged(found[file.name], file) for file in mapping.files}
    good = {file.name: _typed(cells[file.name], file) for file in mapping.files}
    return RawTables(cells=cells, good=good)


def padded(spark: SparkSession, file: SourceFile, found: DataFrame | None) -> DataFrame:
    """A file, or no rows where there is none, with every declared column: those it lacks are empty."""
    rows = spark.createDataFrame([], StructType([StructField(_CORRUPT, StringType())])) if found is None else found
    return rows.select("*", *(F.lit(None).cast("string").alias(name) for name in missing_columns(file, rows)))


def rejected_rows(raw: RawTables, mapping: SourceMapping, key: bytes) -> DataFrame:
    """The rows that do not fit the mapping, ready for quarantine.

    Returns:
        file_name, reasons array<string> (``missing:COL``, ``bad_cast:COL``, ``not_finite:COL``, ``unknown_value:COL``,
        ``malformed_row``), identifiers (their pseudonyms) and payload: the declared cells as JSON, identifiers only as
        their pseudonyms, texts masked, and cells that do not fit by their shape only.
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
    """What quarantine keeps of a cell: a keyed digest of an identifier, a masked text, a number or time as it is.

    A cell that does not fit, or stands in a malformed row, may hold what belongs into another column, such as an
    identifier: only its shape is kept.
    """
    cell = _quoted(column)
    if column.identifier:
        return pseudonym(cell)
    fits = ~F.array_contains(REASONS, "malformed_row")
    fits &= F.forall(REASONS, lambda reason: F.substring_index(reason, ":", -1) != column.name)
    text = cell.cast("string")
    harmless = column.type in {"date", "timestamp"} or column.values
    return F.when(fits, text if harmless else masked_cell(text)).otherwise(shape(cell))


def _cells(spark: SparkSession, file: SourceFile, path: str) -> DataFrame:
    found = found_cells(spark, file, path)
    missing = missing_columns(file, found)
    if missing:
        raise DataError(
            f"raw file {file.name} ({_where(file, path)}): column {', '.join(missing)} is missing; "
            f"found {', '.join(column_names(found))}",
            action="correct the columns of the source mapping, or give the file it was written for",
        )
    return found


def found_cells(spark: SparkSession, file: SourceFile, path: str) -> DataFrame:
    """The columns a file has, before any is judged, and a mark on the rows that cannot be read.

    Raises:
        DataError: the file does not exist, or is not of its format.
    """
    where = _where(file, path)
    try:
        return _read(spark, where, file)
    except AnalysisException as error:
        if "NOT_FOUND" in str(error.getCondition()) or "NOT_EXIST" in str(error.getCondition()):
            message = f"{where} does not exist{' as a Delta table' if file.format == 'delta' else ''}"
            action = "give its folder as source.path of the recipe"
        else:
            message = f"{where} cannot be read as {file.format}: {str(error).splitlines()[0]}"
            action = "correct path or format of the file in the source mapping"
        raise DataError(f"raw file {file.name}: {message}", action=action) from error


def column_names(found: DataFrame) -> tuple[str, ...]:
    """The columns a file has itself."""
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
    """All columns as text; a row with too many or too few cells is kept and marked."""
    reader = spark.read.option("header", file.header).option("sep", file.separator).option("mode", "PERMISSIVE")
    names = reader.csv(where).columns if file.header else [column.name for column in file.columns]
    schema = StructType([StructField(name, StringType()) for name in (*names, _CORRUPT)])
    # With column pruning the parser would count only the cells that are asked for, and miss malformed rows.
    return reader.option("columnNameOfCorruptRecord", _CORRUPT).option("columnPruning", False).csv(where, schema=schema)


def _json(spark: SparkSession, where: str, file: SourceFile) -> DataFrame:
    """The declared fields as text; a field that an object lacks is an empty cell, a broken line is kept and marked."""
    schema = StructType([StructField(name, StringType()) for name in (*(c.name for c in file.columns), _CORRUPT)])
    reader = spark.read.option("mode", "PERMISSIVE").option("columnNameOfCorruptRecord", _CORRUPT)
    return reader.json(where, schema=schema)


def _judged(found: DataFrame, file: SourceFile) -> DataFrame:
    blanks = ("", *file.null_values)
    cleaned = [
        F.when(~F.trim(_quoted(column)).isin(*blanks), F.trim(_quoted(column))).alias(column.name)
        if dict(found.dtypes)[column.name] == "string"
        else _quoted(column)
        for column in file.columns
    ]
    cells = found.select(*cleaned, _CORRUPT)
    reasons = [F.when(F.col(_CORRUPT).isNotNull(), F.lit("malformed_row"))]
    reasons += [reason for column in file.columns for reason in _column_reasons(column)]
    return cells.withColumn(REASONS, F.array_compact(F.array(*reasons))).drop(_CORRUPT)


def _column_reasons(column: SourceColumn) -> list[Column]:
    cell, value = _quoted(column), _value(column)
    reasons = [F.when(cell.isNotNull() & value.isNull(), F.lit(f"bad_cast:{column.name}"))]
    if column.required:
        reasons.append(F.when(cell.isNull(), F.lit(f"missing:{column.name}")))
    if column.values:
        known = cell.cast("string").isin(*column.values)
        reasons.append(F.when(cell.isNotNull() & ~known, F.lit(f"unknown_value:{column.name}")))
    if column.type == "double":
        finite = ~F.isnan(value) & (F.abs(value) < float("inf"))
        reasons.append(F.when(value.isNotNull() & ~finite, F.lit(f"not_finite:{column.name}")))
    return reasons


def _typed(cells: DataFrame, file: SourceFile) -> DataFrame:
    """Good rows in their types; an identifier carries its name, so that a query that shows it is found out."""
    good = cells.where(F.size(REASONS) == 0)
    names = {column.name: {IDENTIFIER: f"{file.name}.{column.name}"} for column in file.columns if column.identifier}
    return good.select(
        *(_value(column).alias(column.name, metadata=names.get(column.name, {})) for column in file.columns)
    )


def _value(column: SourceColumn) -> Column:
    return _quoted(column).try_cast(column.type)


def _quoted(column: SourceColumn) -> Column:
    return F.col(f"`{column.name}`")
