"""Errors of a mapping's SQL, told without the values they met: Spark's own texts and logs quote raw cells."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from schemas.mappings import SourceMapping
from zigong.errors import DataError

PYSPARK_ERRORS = "SQLQueryContextLogger"  # PySpark's logger of failed queries


def sql_cause(error: PySparkException | Py4JJavaError) -> str:
    """Spark's name for an error and the SQL it points at; its full text may hold raw values."""
    if isinstance(error, Py4JJavaError):
        return str(error.java_exception.getClass().getSimpleName())
    fragments = [context.fragment() for context in error.getQueryContext()]
    where = f" in {' '.join(fragments[0].split())}" if fragments and fragments[0] else ""
    return f"{error.getCondition() or type(error).__name__}{where}"


@contextmanager
def raw_values_unsaid(spark: SparkSession, mapping: SourceMapping) -> Iterator[None]:
    """While raw values are at hand, Spark logs nothing, and an error of the mapping's SQL loses the value it quotes.

    Raises:
        DataError: the SQL failed on some row.
    """
    context, told = spark.sparkContext, logging.getLogger(PYSPARK_ERRORS)
    before = told.level
    context.setLogLevel("OFF")
    told.setLevel(logging.CRITICAL)
    try:
        yield
    except PySparkException as error:
        if not error.getQueryContext():
            raise
        raise DataError(
            f"source mapping {mapping.origin}: the SQL fails on some rows: {sql_cause(error)}",
            action="use try_cast or CASE where a value may not fit; `zigong source check` names the part",
        ) from None  # the cause quotes the raw value
    finally:
        context.setLogLevel("ERROR")
        told.setLevel(before)
