"""Rows as lossless JSON text: Spark's default truncates timestamps to milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

EXACT = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}


def row_text(columns: Iterable[tuple[str, str]]) -> Column:
    """The content of a row as one text, equal exactly for equal rows; map entries are sorted, since maps are unordered.

    Args:
        columns: name and Spark type of each column.
    """
    comparable = [_with_sorted_maps(F.col(name), DataType.fromDDL(kind)).alias(name) for name, kind in columns]
    return F.to_json(F.struct(*comparable), EXACT)


def _with_sorted_maps(column: Column, kind: DataType) -> Column:
    """The same value with every map in it, at any depth, replaced by its entries sorted by key."""
    if "map<" not in kind.simpleString():
        return column
    match kind:
        case MapType():
            return F.array_sort(_with_sorted_values(F.map_entries(column), kind.valueType))
        case ArrayType():
            return F.transform(column, lambda item: _with_sorted_maps(item, kind.elementType))
        case StructType():
            fields = [_with_sorted_maps(column[field.name], field.dataType).alias(field.name) for field in kind]
            return F.when(column.isNotNull(), F.struct(*fields))
    raise AssertionError(f"{kind.simpleString()} holds a map, but is no map, array or struct")


def _with_sorted_values(entries: Column, kind: DataType) -> Column:
    if "map<" not in kind.simpleString():
        return entries
    return F.transform(
        entries,
        lambda entry: F.struct(entry["key"].alias("key"), _with_sorted_maps(entry["value"], kind).alias("value")),
    )
