"""Reads the files of a source mapping: every field fits its declaration, or its row is rejected with a reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import SourceColumn, SourceFile, SourceMapping
from zigong.behavior.sources.arrival import arrived_on
from zigong.behavior.sources.casts import castable, strict
from zigong.behavior.sources.identifiers import identifier_reasons, require_exact_identifiers, trimmed
from zigong.behavior.sources.lineage import COLUMN
from zigong.behavior.sources.masking import masked_cell, shape, shown_names
from zigong.behavior.sources.pseudonyms import pseudonymiser
from zigong.behavior.sources.reading import column_names, found_cells, missing_columns, printable
from zigong.behavior.sources.redelivery import ARRIVED_ON
from zigong.behavior.sources.text_rows import CORRUPT, DOUBLED, FILE, LINE, MALFORMED, REPEATED_HEADER
from zigong.errors import DataError

REASONS, BROKEN_TEXT = "_reasons", "broken_text"
MAX_CELL, SHOWN_CELL = 65_536, 1_000  # characters: longest valid text, and longest field kept in quarantine


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """The raw files of one source.

    Attributes:
        cells: by file name, the raw fields (strings, or the types of Parquet and Delta), ``_doubled_keys``, ``_file``,
            ``_line`` and ``_reasons``, empty for a valid row.
        good: by file name, the rows without reasons, in the types of the mapping, and ``_line`` except for Delta.
        unread: by file name, columns that the file has but the mapping does not declare.
        analysed: the queries over ``good`` that ``query.stated_rows`` has analysed, by SQL; a copy starts without any.
    """

    cells: Mapping[str, DataFrame]
    good: Mapping[str, DataFrame]
    unread: Mapping[str, tuple[str, ...]]
    analysed: dict[str, DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)


def read_raw(
    spark: SparkSession, mapping: SourceMapping, path: str, only: Mapping[str, Collection[str]] | None = None
) -> RawTables:
    """Reads the files of a mapping below ``path``.

    ``only``: by section, the names of the files to read instead of all; for those with a pattern of their arrival.

    Raises:
        DataError: a file or a column is missing.
    """
    chosen = only or {}
    return raw_tables(mapping, {file.name: _cells(spark, file, path, chosen.get(file.name)) for file in mapping.files})


def raw_tables(mapping: SourceMapping, found: Mapping[str, DataFrame]) -> RawTables:
    """Validates every field of the files, given by name as ``found_cells`` returns them, with all declared columns.

    Raises:
        DataError: a column of a typed file has a type that cannot become the declared one.
    """
    cells = {file.name: _validated(found[file.name], file) for file in mapping.files}
    good = {file.name: typed_rows(cells[file.name], file) for file in mapping.files}
    declared = {file.name: {column.name for column in file.columns} for file in mapping.files}
    unread = {
        name: tuple(column for column in column_names(found[name]) if column not in known)
        for name, known in declared.items()
    }
    return RawTables(cells=cells, good=good, unread=unread)


def rejected_rows(raw: RawTables, mapping: SourceMapping, key: bytes) -> DataFrame:
    """The rows that do not fit the mapping, ready for quarantine.

    Returns:
        file_name, reasons array<string> (``missing:COL``, ``bad_cast:COL``, ``not_finite:COL``, ``below_minimum:COL``,
        ``unknown_value:COL``, ``broken_text:COL``, ``too_long:COL``, ``scientific_notation:COL``,
        ``invisible_letters:COL``, ``unexpected_offset:COL``, or only ``malformed_row`` or ``repeated_header``),
        identifiers (their pseudonyms) and payload: ``_file``, ``_line`` and the declared fields as JSON, truncated,
        with identifiers as pseudonyms, texts masked, and only the shape of fields that do not fit.
    """
    pseudonym = pseudonymiser(key)
    return reduce(DataFrame.unionByName, (_rejected(raw.cells[file.name], file, pseudonym) for file in mapping.files))


def _rejected(cells: DataFrame, file: SourceFile, pseudonym: Callable[[Column], Column]) -> DataFrame:
    shown = [_shown(column, pseudonym).alias(column.name) for column in file.columns]
    bad = cells.where(F.size(REASONS) > 0).select(REASONS, F.struct(*shown, FILE, LINE).alias("row"))
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
    fits = ~F.arrays_overlap(REASONS, F.array(F.lit(MALFORMED), F.lit(REPEATED_HEADER)))
    fits &= F.forall(REASONS, lambda reason: F.substring_index(reason, ":", -1) != column.name)
    text = cell.cast("string")
    harmless = column.type in {"date", "timestamp"} or column.values
    return _shortened(F.when(fits, text if harmless else masked_cell(text)).otherwise(shape(cell)))


def _cells(spark: SparkSession, file: SourceFile, path: str, only: Collection[str] | None) -> DataFrame:
    found = found_cells(spark, file, path, only)
    missing = missing_columns(file, found)
    if missing:
        shown = shown_names([printable(name) for name in column_names(found)], [column.name for column in file.columns])
        raise DataError(
            f"raw file {file.name} ({path.rstrip('/')}/{file.path}): column {', '.join(missing)} is missing; "
            f"found {', '.join(shown) or 'no column at all: the file is empty'}",
            action="correct the columns of the source mapping, or use the file it was written for",
        )
    require_exact_identifiers(file, found)
    return found


def _shortened(text: Column) -> Column:
    return F.when(F.length(text) > SHOWN_CELL, F.concat(F.substring(text, 1, SHOWN_CELL), F.lit("…"))).otherwise(text)


def _validated(found: DataFrame, file: SourceFile) -> DataFrame:
    kinds = dict(found.dtypes)
    cleaned = [
        _cleaned(column, file) if kinds[column.name] in ("string", "binary") else _quoted(column)
        for column in file.columns
    ]
    cells = found.select(*cleaned, CORRUPT, DOUBLED, FILE, LINE)
    _require_castable(cells, file)
    values = _values(cells, file)
    reasons = F.array_compact(
        F.array(*(reason for column in file.columns for reason in _column_reasons(column, values[column.name])))
    )
    malformed = F.when(F.col(CORRUPT).isNotNull(), F.array(CORRUPT))
    return cells.withColumn(REASONS, F.coalesce(malformed, reasons)).drop(CORRUPT)


def _cleaned(column: SourceColumn, file: SourceFile) -> Column:
    """The trimmed text, null where it is a null value; invalid UTF-8 becomes a replacement character."""
    text = trimmed(column, F.make_valid_utf8(_quoted(column).cast("string")))
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
        reasons.append(F.when(broken, F.lit(f"{BROKEN_TEXT}:{column.name}")))
        reasons.append(F.when(F.length(text) > MAX_CELL, F.lit(f"too_long:{column.name}")))
    reasons += identifier_reasons(column, cell)
    if column.minimum is not None:
        reasons.append(F.when(value < F.lit(column.minimum), F.lit(f"below_minimum:{column.name}")))
    if column.type == "double":
        finite = ~F.isnan(value) & (F.abs(value) < float("inf"))
        reasons.append(F.when(value.isNotNull() & ~finite, F.lit(f"not_finite:{column.name}")))
    return reasons


def typed_rows(cells: DataFrame, file: SourceFile) -> DataFrame:
    """The valid rows in the declared types; columns carry their name, so that a query that shows one is detected."""
    good = cells.where(F.size(REASONS) == 0)
    return good.select(
        *(value.alias(name, metadata={COLUMN: f"{file.name}.{name}"}) for name, value in _values(cells, file).items()),
        *([] if file.format == "delta" else [LINE]),
        *([] if file.arrival is None else [arrived_on(file).alias(ARRIVED_ON)]),
    )


def _values(cells: DataFrame, file: SourceFile) -> dict[str, Column]:
    """The typed value of each declared column, by name."""
    kinds = dict(cells.dtypes)
    return {column.name: strict(_quoted(column), kinds[column.name], column.type) for column in file.columns}


def _quoted(column: SourceColumn) -> Column:
    return F.col(f"`{column.name}`")
