"""Rows as JSON text that loses nothing: Spark's own default cuts instants to milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column
from pyspark.sql import functions as F

EXACT = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}


def row_text(columns: Iterable[tuple[str, str]]) -> Column:
    """The content of a row as one text, equal exactly for equal rows; maps have no order, so their entries are sorted.

    Args:
        columns: name and Spark type of each column.
    """
    comparable = [
        F.array_sort(F.map_entries(name)).alias(name) if kind.startswith("map") else F.col(name)
        for name, kind in columns
    ]
    return F.to_json(F.struct(*comparable), EXACT)
