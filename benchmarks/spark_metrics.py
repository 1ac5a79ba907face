"""What Spark read, wrote and shuffled for a piece of work, by its own metrics; they also exist with the UI off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession


@dataclass(frozen=True, kw_only=True)
class Work:
    """Sums over all queries and stages of a piece of work.

    Attributes:
        scanned: rows returned by scans of each named table.
        shuffled_bytes: shuffle bytes written, as on disk.
        read_rows: rows that stages read from files.
        written_rows: rows that stages wrote to files.
    """

    scanned: dict[str, int]
    shuffled_bytes: int
    read_rows: int
    written_rows: int


def watched(spark: SparkSession, work: Callable[[], object], *, tables: tuple[str, ...]) -> Work:
    """Runs ``work`` and returns Spark's work for it.

    Args:
        tables: names of tables, by which scans are found: the last part of their paths.
    """
    spark.conf.set("spark.sql.maxMetadataStringLength", "10000")  # or the paths of scans are truncated
    before = _stages(spark).keys(), {query.executionId() for query in _queries(spark)}
    work()
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    stages = [stage for key, stage in _stages(spark).items() if key not in before[0]]
    queries = [query.executionId() for query in _queries(spark) if query.executionId() not in before[1]]
    return Work(
        scanned=_scanned(spark, queries, tables),
        shuffled_bytes=sum(stage.shuffleWriteBytes() for stage in stages),
        read_rows=sum(stage.inputRecords() for stage in stages),
        written_rows=sum(stage.outputRecords() for stage in stages),
    )


def _scanned(spark: SparkSession, queries: list[int], tables: tuple[str, ...]) -> dict[str, int]:
    store, found = spark._jsparkSession.sharedState().statusStore(), dict.fromkeys(tables, 0)
    for query in queries:
        values = store.executionMetrics(query)
        for node in _listed(store.planGraph(query).allNodes()):
            named = [table for table in tables if node.name().startswith("Scan") and f"/{table}]" in node.desc()]
            for metric in _listed(node.metrics()) if named else ():
                value = values.get(metric.accumulatorId())
                if metric.name() == "number of output rows" and value.isDefined():
                    found[named[0]] += int(value.get().replace(",", ""))
    return found


def _stages(spark: SparkSession) -> dict[tuple[int, int], Any]:
    context = spark.sparkContext
    store, gateway = context._jsc.sc().statusStore(), context._gateway
    none, quantiles = gateway.jvm.java.util.ArrayList(), gateway.new_array(gateway.jvm.double, 0)
    stages = _listed(store.stageList(none, False, False, quantiles, none))
    return {(stage.stageId(), stage.attemptId()): stage for stage in stages}


def _queries(spark: SparkSession) -> list[Any]:
    return _listed(spark._jsparkSession.sharedState().statusStore().executionsList())


def _listed(scala: Any) -> list[Any]:
    return [scala.apply(number) for number in range(scala.size())]
