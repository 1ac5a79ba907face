"""Keeps raw values out of logs and messages while raw files and a mapping's SQL are computed.

Spark's own messages, logs and event log quote raw values, so nothing of them is passed on but names of error
conditions, fragments of the mapping's SQL and places in the code.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from schemas.mappings import SourceMapping
from zigong.behavior.sources.records import UNREADABLE_TEXT
from zigong.errors import DataError, ZigongError, full_disk

UNREADABLE = "FAILED_READ_FILE"  # a condition of Spark
# Classes of SQLSTATE: a value does not fit, a key occurs twice, the SQL itself raises an error.
DATA_EXCEPTIONS = ("22", "23", "P0")
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

    Spark records nothing of the computations inside. Every error that is not of ZiGong is replaced by one that names
    its kind and its place: its message may quote a raw value.

    Raises:
        DataError: a raw file cannot be read completely, or the SQL cannot compute with a value.
        InfraError: a disk is full.
        ZigongError: anything else.
    """
    resume = stop_recording(spark)
    with values_withheld(f"source mapping {mapping.origin}", path):
        yield
    resume()


@contextmanager
def values_withheld(subject: str, path: str | None = None) -> Iterator[None]:
    """Replaces every error that is not of ZiGong, whose message may quote a value.

    Args:
        subject: whose SQL and rows are computed, for the message.
        path: folder of the raw files, if any are read.
    """
    try:
        yield
    except ZigongError:
        raise
    except Exception as error:
        raise _fault(error, subject, path) from None  # the cause quotes values


def stop_recording(spark: SparkSession) -> Callable[[], None]:
    """Stops Spark's log, on driver and executors, and its event log: both quote the values on which a task fails.

    Returns:
        A function that starts both again. Not to be called after a failure: other tasks of the failed computation may
        still report theirs.
    """
    context: Any = spark.sparkContext
    jvm_context = context._jsc.sc()
    spark.sparkContext.setLogLevel("OFF")
    event_log, bus = jvm_context.eventLogger(), jvm_context.listenerBus()
    if event_log.isDefined():
        bus.waitUntilEmpty()
        bus.removeListener(event_log.get())

    def resume() -> None:
        if event_log.isDefined():
            bus.waitUntilEmpty()
            bus.addToEventLogQueue(event_log.get())
        spark.sparkContext.setLogLevel("ERROR")

    return resume


def unreadable_file(error: Py4JJavaError | PySparkException, path: str) -> DataError | None:
    """A DataError if the error means that a file below ``path`` cannot be read; None for any other error."""
    throwables = _throwables(error)
    for thrown in throwables:
        _, marker, named = str(thrown.getMessage() or "").partition(UNREADABLE_TEXT)
        if marker:
            file, cause = json.JSONDecoder().raw_decode(named)[0]
            return unreadable(file, cause)
        file = thrown.getMessageParameters().get("path") if _condition(thrown).startswith(UNREADABLE) else None
        if file is not None and path.rstrip("/") in unquote(str(file)):
            return unreadable(unquote(str(file)), _reason(throwables))
    return None


def unreadable(file: str, cause: str) -> DataError:
    """The error for a raw file that cannot be read; the cause holds nothing of its content."""
    return DataError(
        f"raw file {file} cannot be read: {cause}",
        action="deliver the file again, complete and as the source mapping describes it; the published version "
        "is unchanged",
    )


def cause_of(error: Py4JJavaError | PySparkException) -> str:
    """Spark's error condition and the SQL fragment it points to; the full message may contain raw values."""
    named = [thrown for thrown in _throwables(error) if _condition(thrown)]
    if not named:
        return type(error).__name__
    fragments = [context.fragment() for context in named[-1].getQueryContext()]
    where = f" in {' '.join(fragments[0].split())}" if fragments and fragments[0] else ""
    return f"{_condition(named[-1])}{where}"


def _fault(error: Exception, subject: str, path: str | None) -> ZigongError:
    """The error without any raw value."""
    known: ZigongError | None = full_disk(error)
    name = type(error).__name__
    if isinstance(error, Py4JJavaError | PySparkException):
        unreadable = unreadable_file(error, path) if path else None
        known = unreadable or _uncomputable(error, subject) or known
        name = cause_of(error)
    places = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "zigong" in frame.filename or "jobs" in frame.filename
    ]
    return known or ZigongError(
        f"{subject}: {name} at {', '.join(places[-3:]) or 'an unknown place'}; its message is "
        "withheld, because it may quote a raw value",
        action="`zigong source check` on the same files may name the column; otherwise report this",
    )


def _uncomputable(error: Py4JJavaError | PySparkException, subject: str) -> DataError | None:
    states = [str(thrown.getSqlState() or "") for thrown in _throwables(error) if _is_named(thrown)]
    if not any(state.startswith(DATA_EXCEPTIONS) for state in states):
        return None
    return DataError(
        f"{subject}: its SQL cannot compute with a value: {cause_of(error)}",
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
