"""Rows as comparable texts, in no order."""

from __future__ import annotations

import json

from pyspark.sql import DataFrame


def texts(frame: DataFrame) -> list[str]:
    """Every column of every row; the order of rows and of map entries says nothing."""
    return sorted(json.dumps(row.asDict(recursive=True), sort_keys=True, default=str) for row in frame.collect())
