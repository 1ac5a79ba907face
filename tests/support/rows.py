"""Rows as comparable texts, independent of their order."""

from __future__ import annotations

import json

from pyspark.sql import DataFrame


def texts(frame: DataFrame) -> list[str]:
    """Every column of every row; the order of rows and of map entries is ignored."""
    return sorted(json.dumps(row.asDict(recursive=True), sort_keys=True, default=str) for row in frame.collect())
