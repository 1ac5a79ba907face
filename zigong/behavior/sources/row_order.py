"""Finds values of a mapping's SQL that depend on the order in which rows are read: the same rows of a file whose lines
were delivered in another order would give other events.

Where the data can show that the order decides nothing (no two rows tie, or tying rows are equal), there is no finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.plans import items, kind, nested, outputs, own_nodes
from zigong.behavior.sources.query import queried_rows
from zigong.behavior.sources.raw import RawTables
from zigong.behavior.sources.text_rows import LINE

_FROM_WINDOWS = {"RowNumber", "NTile", "Lag", "Lead", "NthValue", "First", "Last", "AnyValue"}
_ONE_OF_GROUP = {"First", "Last", "AnyValue"}
_ALWAYS = {
    "CollectList", "CollectSet", "MaxBy", "MinBy", "Mode", "PandasMode", "ApproximatePercentile", "ApproxTopK",
    "ApproxTopKAggregation", "HistogramNumeric",
}  # fmt: skip
_ORDERED_AFTERWARDS = {"SortArray", "ArraySort", "ArrayMin", "ArrayMax", "Size", "ArraySize", "ArrayContains"}
_SAME_ROWS = {"Project", "LocalLimit", "GlobalLimit", "Offset"}
_ANY_ORDER = "add columns to its ORDER BY until no two rows tie, or use min or max"


def order_findings(query: DataFrame, section: str) -> list[SourceFinding]:
    """One finding for each function or clause of a section whose result depends on the order of the rows."""
    spark = query.sparkSession
    problems = dict.fromkeys(_problems(spark, query._jdf.queryExecution().analyzed()))
    return [SourceFinding(section=section, problem=problem, action=_ANY_ORDER, blocking=False) for problem in problems]


def order_dependent(spark: SparkSession, raw: RawTables, mapping: SourceMapping, timezone: str) -> list[SourceFinding]:
    """The findings of both sections; without functions that depend on an order nothing is computed."""
    rows = {section: queried_rows(spark, raw, mapping, section, timezone) for section in ("events", "profiles")}
    return [finding for section, query in rows.items() for finding in order_findings(query, section)]


def _problems(spark: SparkSession, plan: Any) -> Iterator[str]:
    for node, expressions, around in own_nodes(plan):
        name, data = kind(node), _Data(spark, around)
        if name == "Window":
            yield from _of_window(data, node)
        elif name == "Aggregate":
            yield from _of_aggregate(data, node, expressions)
        elif name == "Sample":
            yield "TABLESAMPLE depends on the order of the rows"
        elif name in {"GlobalLimit", "Offset"}:
            yield from _of_limit(data, node, "LIMIT" if name == "GlobalLimit" else "OFFSET")


def _of_window(data: _Data, window: Any) -> Iterator[str]:
    """Functions of a window, where rows that differ tie in its PARTITION BY and ORDER BY."""
    used = {kind(part): str(part.prettyName()) for root in items(window.windowExpressions()) for part in nested(root)}
    framed = any(kind(part) == "RowFrame$" for root in items(window.windowExpressions()) for part in _frames(root))
    names = sorted(name for found, name in used.items() if found in _FROM_WINDOWS | _ALWAYS)
    if not names and not framed:
        return
    keys = [*items(window.partitionSpec()), *(order.child() for order in items(window.orderSpec()))]
    ties = data.tying_rows(window.child(), keys)
    for name in names or ["a frame of ROWS"]:
        shown = f"{name}()" if names else name
        if ties is None:
            yield f"{shown} depends on the order of the rows where two tie in its ORDER BY"
        elif ties:
            yield f"{shown} depends on the order of the rows: {ties:,} differ and tie in its ORDER BY"


def _frames(root: Any) -> Iterator[Any]:
    """The frame types that a mapping wrote around sums and counts; ranking functions have theirs from Spark."""
    for part in nested(root):
        if kind(part) != "WindowExpression" or kind(part.windowFunction()) != "AggregateExpression":
            continue
        frame = part.windowSpec().frameSpecification()
        whole = "unboundedpreceding" in str(frame).lower() and "unboundedfollowing" in str(frame).lower()
        if kind(frame) == "SpecifiedWindowFrame" and not whole:
            yield frame.frameType()


def _of_aggregate(data: _Data, node: Any, expressions: Sequence[Any]) -> Iterator[str]:
    """Aggregates that keep one of several values, or all of them in the order of the rows."""
    for part in _unsorted(expressions):
        name = kind(part)
        if name in _ONE_OF_GROUP:
            value = part.children().apply(0)
            if data.one_value(node, value) is not True:
                yield f"{part.prettyName()}() depends on the order of the rows: a group holds several values"
        elif name in _ALWAYS or (name == "ListAgg" and not part.orderExpressions().length()):
            yield f"{part.prettyName()}() depends on the order of the rows"


def _of_limit(data: _Data, node: Any, clause: str) -> Iterator[str]:
    """A limit keeps the same rows only after an ORDER BY in which no two rows tie."""
    below = node.child()
    while kind(below) in _SAME_ROWS:
        below = below.child()
    if kind(below) != "Sort":
        yield f"{clause} depends on the order of the rows: no ORDER BY determines it"
        return
    ties = data.tying_rows(below.child(), [order.child() for order in items(below.order())])
    if ties is None or ties:
        yield f"{clause} depends on the order of the rows where two tie in its ORDER BY"


def _unsorted(expressions: Iterable[Any]) -> Iterator[Any]:
    """All expressions, without those whose result a sort or a count makes independent of the order."""
    for expression in expressions:
        if kind(expression) not in _ORDERED_AFTERWARDS:
            yield expression
            yield from _unsorted(items(expression.children()))


class _Data:
    """Computes the rows of parts of a plan.

    Args:
        spark: the session.
        around: nodes around the parts that define common table expressions, outermost first.
    """

    def __init__(self, spark: SparkSession, around: tuple[Any, ...]) -> None:
        self._spark, self._around = spark, around

    def tying_rows(self, plan: Any, keys: Sequence[Any]) -> int | None:
        """Number of rows that are equal in the keys and differ elsewhere; None if that cannot be computed."""
        try:
            rows, found = self._rows(plan, keys)
            names = list(dict.fromkeys(found))
            whole = F.xxhash64(F.to_json(F.struct(*rows.columns))).alias("_row")
            groups = rows.select(*names, whole).groupBy(*names)
            counted = groups.agg(F.count("*").alias("_rows"), F.count_distinct("_row").alias("_kinds"))
            ties = counted.where("_kinds > 1").agg(F.coalesce(F.sum("_rows"), F.lit(0)).alias("_rows"))
            return int(ties.collect()[0]["_rows"])
        except (PySparkException, Py4JJavaError, _NoColumnError):
            return None

    def one_value(self, node: Any, value: Any) -> bool | None:
        """Whether every group of an aggregate holds one value; None if that cannot be computed."""
        try:
            rows, (*found, of) = self._rows(node.child(), [*items(node.groupingExpressions()), value])
            names = list(dict.fromkeys(found))
            values = rows.select(*names, F.to_json(F.struct(of)).alias("_value"))
            kinds = values.groupBy(*names).agg(F.count_distinct("_value").alias("_kinds"))
            return bool(kinds.where("_kinds > 1").isEmpty())
        except (PySparkException, Py4JJavaError, _NoColumnError):
            return None

    def _rows(self, plan: Any, columns: Sequence[Any]) -> tuple[DataFrame, list[str]]:
        """The rows of a plan without ``_line`` (equal rows on two lines do not differ), and the names of some columns.

        Columns get new names, because those of a plan may repeat.
        """
        jvm = self._spark._jvm
        attributes = [(name, attribute.exprId().id()) for name, attribute in outputs(plan)]
        known = {number: f"c{place}" for place, (_, number) in enumerate(attributes)}
        if len(known) < len(attributes) or any(kind(column) != "AttributeReference" for column in columns):
            raise _NoColumnError
        for outer in reversed(self._around):
            plan = jvm.org.apache.spark.sql.catalyst.plans.logical.WithCTE(plan, outer.cteDefs())
        frame = jvm.org.apache.spark.sql.classic.Dataset.ofRows(self._spark._jsparkSession, plan)
        names = [known[column.exprId().id()] for column in columns]
        kept = [known[number] for name, number in attributes if name != LINE or known[number] in names]
        return DataFrame(frame, self._spark).toDF(*known.values()).select(*kept), names


class _NoColumnError(Exception):
    """An expression that is no column of the rows below it."""
