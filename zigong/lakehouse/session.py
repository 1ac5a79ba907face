"""One Spark session with Delta, explicit limits and UTC everywhere."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from zigong.errors import ConfigError, InfraError
from zigong.lakehouse import python_daemon
from zigong.recipe import Engine
from zigong.recipe.user_key import KEY_VARIABLE, taken_key

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
LOOPBACK = "127.0.0.1"
JARS_VARIABLE = "ZIGONG_DELTA_JARS"  # folder of jars for machines that cannot resolve packages


def open_spark(engine: Engine, *, app_name: str, log: Path | None = None) -> SparkSession:
    """Opens the session, or joins the one that spark-submit or a test started.

    Args:
        engine: limits from the recipe; a master given to spark-submit wins.
        app_name: name shown in Spark's UI and logs.
        log: file for the output of a JVM that is started here; None: standard error.

    Raises:
        ConfigError: Spark's configuration holds the key of the pseudonyms, which executors must not get.
        InfraError: Java is missing or the session does not start.
    """
    _require_java()
    silence_pyspark()
    secret = taken_key()  # before a JVM inherits the environment
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    for key, value in _settings(engine).items():
        builder = builder.config(key, value)
    if "SPARK_ENV_LOADED" not in os.environ:  # set by spark-submit, which brings master and packages itself
        builder = builder.master(engine.spark_master)
        if engine.spark_master.startswith("local"):  # nobody else has to reach the driver
            builder = builder.config("spark.driver.bindAddress", LOOPBACK).config("spark.driver.host", LOOPBACK)
            builder = builder.config("spark.python.daemon.module", python_daemon.__name__)
            builder = builder.config("spark.executorEnv.PYTHONPATH", str(Path(python_daemon.__file__).parents[2]))
    try:
        with _standard_error_in(log):
            session = builder.getOrCreate()
        session.range(1).count()
    except (PySparkException, PySparkRuntimeError, OSError) as error:
        details = f" (details in {log})" if log else ""
        raise InfraError(f"Spark did not start: {error}{details}", action="run `zigong doctor`") from error
    session.sparkContext.setLogLevel("ERROR")
    _require_unshared(session, secret)
    return session


def _require_unshared(session: SparkSession, secret: str) -> None:
    """Refuses a configuration that would pass the key to executors or show it in event logs."""
    for name, value in session.sparkContext.getConf().getAll():
        if name.endswith(f".{KEY_VARIABLE}") or (secret and secret in value):
            raise ConfigError(
                f"Spark's setting {name} holds {KEY_VARIABLE}: executors and event logs would get the key",
                action=f"remove the setting; only the driver of ingest_events needs {KEY_VARIABLE} in its environment",
            )


def silence_pyspark() -> None:
    """Makes every logger of PySpark discard its records, for the rest of the process.

    Each of them writes to standard error by itself, and repeats the message of an exception that is raised anyway:
    the message of a failed cast contains the raw value.
    """
    PySparkLogger.handle = _discarded


def _discarded(_logger: logging.Logger, _record: logging.LogRecord) -> None:
    """Takes the place of ``Logger.handle``."""


@contextmanager
def _standard_error_in(log: Path | None) -> Iterator[None]:
    """Redirects file descriptor 2 to ``log`` while a JVM starts; the JVM keeps it for all its Ivy and log4j output."""
    if log is None or "SPARK_ENV_LOADED" in os.environ:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return
    if shutil.which("java") is None:
        raise InfraError(
            "Java is missing: no java program in JAVA_HOME or PATH",
            action="install a full Java 17 runtime (Debian, Ubuntu: apt-get install openjdk-17-jre-headless) "
            "or set JAVA_HOME",
        )


def _settings(engine: Engine) -> dict[str, str]:
    jars = os.environ.get(JARS_VARIABLE)
    delta = {"spark.jars": ",".join(sorted(str(jar) for jar in Path(jars).glob("*.jar")))} if jars else {}
    return {
        **(delta or {"spark.jars.packages": DELTA_PACKAGE}),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.driver.memory": engine.spark_driver_memory,
        # With few compiler threads Java reserves 48 MiB for compiled code; a run fills it and would then interpret.
        "spark.driver.extraJavaOptions": f"-XX:ReservedCodeCacheSize=256m {engine.spark_java_options}",
        "spark.sql.shuffle.partitions": str(engine.spark_shuffle_partitions),
        "spark.sql.session.timeZone": "UTC",
        # The names of partition folders are texts: id=007 is not the number 7, nor date=2023-01 a day.
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Batches are limited by rows by default: 10,000 users with long values would not fit into a worker.
        "spark.sql.execution.arrow.maxBytesPerBatch": "64m",
        # Staged files are added to tables as they are; Delta has times in microseconds, with statistics.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.databricks.delta.schema.autoMerge.enabled": "false",
        # Runs read their pinned versions at any age, and `zigong maintain` keeps the files of those; Delta would refuse
        # each version that is older than a week.
        "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
        "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
        # Arrays are collected from sorted rows: the object hash aggregate loses their order after 128 groups.
        "spark.sql.execution.useObjectHashAggregateExec": "false",
        # Read at every field access of a higher-order function; an explicit value costs a fifth of the default lookup.
        "spark.sql.types.framework.enabled": "false",
        # To name lines of Python in errors, every method of a column or frame would ask the JVM some ten times more.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.sql.variable.substitute": "false",  # ${env:NAME} in SQL would be replaced by the environment
        "spark.ui.enabled": "false",
        # Executors follow the driver's log level, which is OFF while raw values are at hand.
        "spark.executor.syncLogLevel.enabled": "true",
        "spark.ui.showConsoleProgress": "false",
    }
