"""Translates Spark's runtime errors on raw files and on a mapping's SQL into messages without raw values.

Spark's own messages and logs quote raw values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from schemas.mappings import SourceMapping
from zigong.errors import DataError
from zigong.lakehouse.session import PYSPARK_ERRORS

UNREADABLE, DATA_EXCEPTION = "FAILED_READ_FILE", "22"  # a condition of Spark; a class of SQLSTATE
# Exceptions whose messages are about the file or its header and never contain a value.
_SAFE_MESSAGES = (
    "java.io.",
    "java.util.zip.",
    "java.lang.RuntimeException",
    "org.apache.parquet.",
    "org.apache.spark.SparkIllegalArgumentException",
)


@contextmanager
def raw_faults(spark: SparkSession, mapping: SourceMapping, path: str) -> Iterator[None]:
    """Reports faults of the raw files below ``path`` and of the mapping's SQL, which Spark finds at computation time.

    Spark logs nothing inside this context, because its logs may contain raw values.

    Raises:
        DataError: a raw file cannot be read completely, or the SQL cannot compute with a value.
    """
    logger = logging.getLogger(PYSPARK_ERRORS)
    before = logger.level
    spark.sparkContext.setLogLevel("OFF")
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        fault = unreadable_file(error, path) or _uncomputable(error, mapping)
        if fault is None:
            raise
        raise fault from None  # the cause quotes raw values
    finally:
        spark.sparkContext.setLogLevel("ERROR")
        logger.setLevel(before)


def unreadable_file(error: Py4JJavaError | PySparkException, path: str) -> DataError | None:
    """A DataError if the error means that a file below ``path`` cannot be read; None for any other error."""
    throwables = _throwables(error)
    for thrown in throwables:
        file = thrown.getMessageParameters().get("path") if _condition(thrown).startswith(UNREADABLE) else None
        if file is not None and path.rstrip("/") in unquote(str(file)):
            return DataError(
                f"raw file {unquote(str(file))} cannot be read: {_reason(throwables)}",
                action="deliver the file again, complete and as the source mapping describes it; the published version "
                "is unchanged",
            )
    return None


def cause_of(error: Py4JJavaError | PySparkException) -> str:
    """Spark's error condition and the SQL fragment it points to; the full message may contain raw values."""
    named = [thrown for thrown in _throwables(error) if _condition(thrown)]
    if not named:
        return type(error).__name__
    fragments = [context.fragment() for context in named[-1].getQueryContext()]
    where = f" in {' '.join(fragments[0].split())}" if fragments and fragments[0] else ""
    return f"{_condition(named[-1])}{where}"


def _uncomputable(error: Py4JJavaError | PySparkException, mapping: SourceMapping) -> DataError | None:
    states = [str(thrown.getSqlState() or "") for thrown in _throwables(error) if _is_named(thrown)]
    if not any(state.startswith(DATA_EXCEPTION) for state in states):
        return None
    return DataError(
        f"source mapping {mapping.origin}: its SQL cannot compute with a value: {cause_of(error)}",
        action="use try_cast or CASE in the SQL, or declare a type for the raw column that fits the value, so that "
        "other rows go to quarantine; `zigong source check` finds the columns",
    )


def _throwables(error: Py4JJavaError | PySparkException) -> list[Any]:
    """The Java exception and its causes, outermost first."""
    thrown = error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None)
    chain: list[Any] = []
    while thrown is not None and len(chain) < 20:
        chain.append(thrown)
        thrown = thrown.getCause()
    return chain


def _is_named(thrown: Any) -> bool:
    context = SparkContext._active_spark_context
    return bool(context and is_instance_of(context._gateway, thrown, "org.apache.spark.SparkThrowable"))


def _condition(thrown: Any) -> str:
    return str(thrown.getCondition() or "") if _is_named(thrown) else ""


def _reason(throwables: list[Any]) -> str:
    """The innermost cause, with its message if that is about the file and not about a value."""
    for thrown in throwables:
        if _condition(thrown) == f"{UNREADABLE}.PARQUET_COLUMN_DATA_TYPE_MISMATCH":
            types = thrown.getMessageParameters()
            kinds = f"{types.get('actualType')} where other files of the folder hold {types.get('expectedType')}"
            return f"column {types.get('column')} holds {kinds}"
    innermost = throwables[-1]
    name = str(innermost.getClass().getName())
    message = " ".join(str(innermost.getMessage() or "").split()) if name.startswith(_SAFE_MESSAGES) else ""
    return f"{name.rpartition('.')[2]}: {message[:300]}" if message else name.rpartition(".")[2]
