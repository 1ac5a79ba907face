"""What a mapping's SQL makes of texts and local times: texts without a value, and times that name two instants or none.

The conversions are found in Spark's analysed plan and each is counted over the rows that reach it: a later join or
filter may drop them, and the result of the SQL no longer shows what was there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn

from zigong.behavior.sources.lineage import conditions_of, values_of
from zigong.behavior.sources.plans import items, kind, nested, own_nodes

_CHOICES = ("If", "CaseWhen")
_UNRUNNABLE = ("OuterReference", "NamedLambdaVariable", "UnresolvedNamedLambdaVariable")
_NOT_VALUES = ("WindowSpecDefinition", "Frame", "CurrentRow", "Preceding", "Following")
_FRACTION = r"[.,][0-9]+\s*\z"
_GROUPED = r"\A\s*[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}\s*\z"
_SHIFTS = ("30 MINUTES", "1 HOUR", "2 HOURS")  # by which the clocks of a zone change


@dataclass(frozen=True, kw_only=True)
class Converted:
    """One conversion of the SQL.

    Attributes:
        columns: the columns whose values it converts.
        sql: the expression, which holds no value of a row.
        type: what it yields, as Spark names it.
        rows: rows whose cell is there; of numbers, whose text ends in a fraction.
        lost: how many of them have no value; of local times, how many name two instants or none; of numbers, how many
            read what may be thousands, such as 1,234, as a fraction.
    """

    columns: tuple[str, ...]
    sql: str
    type: str
    rows: int
    lost: int

    @property
    def of_cents(self) -> bool:
        """Whether it yields a decimal with at most two places, which cannot hold thousandths."""
        return self.type.startswith("decimal") and int(self.type.rstrip(")").rpartition(",")[2]) <= 2


def emptied_texts(spark: SparkSession, query: DataFrame) -> list[Converted]:
    """Conversions of texts to numbers and times that are null for some rows whose text is there; computes the rows."""
    return _measured(spark, query, _attempts, lambda unit: (_there(unit), _value(unit).isNull()))


def doubtful_local_times(spark: SparkSession, query: DataFrame) -> list[Converted]:
    """Calls of to_utc_timestamp for times that the clocks of the zone show twice, or never; computes the rows."""
    return _measured(spark, query, _local_times, lambda unit: (_local(unit).isNotNull(), _doubtful(unit)))


def doubtful_fractions(spark: SparkSession, query: DataFrame) -> list[Converted]:
    """Conversions that read texts such as 1,234 as 1.234; computes the rows.

    A type with at most two decimals cannot even hold such a fraction; for other types, a conversion is returned only
    where all its fractions have three digits.
    """
    found = _measured(spark, query, _numbers, lambda unit: (_text(unit).rlike(_FRACTION), _shortened(unit)))
    return [item for item in found if item.of_cents or item.lost == item.rows]


def _measured(spark: SparkSession, query: DataFrame, wanted: Any, conditions: Any) -> list[Converted]:
    found: list[Converted] = []
    seen: set[tuple[str, ...]] = set()
    for child, units in _conversions(spark, query, wanted):
        new = [unit for unit in units if _identity(unit) not in seen]
        seen.update(map(_identity, new))
        found += _counted(spark, child, new, conditions) if new else []
    return [conversion for conversion in found if conversion.lost]


def _conversions(spark: SparkSession, query: DataFrame, wanted: Any) -> Iterator[tuple[Any, list[Any]]]:
    """The plans below the nodes of the SQL, each with the wanted expressions of its node."""
    jvm: Any = spark._jvm
    for node, expressions, around in own_nodes(query._jdf.queryExecution().analyzed()):
        children = list(items(node.children()))
        units = [unit for expression in expressions for unit in wanted(expression) if _runs(unit)]
        if units and len(children) == 1:
            below = children[0]
            for outer in reversed(around):
                below = jvm.org.apache.spark.sql.catalyst.plans.logical.WithCTE(below, outer.cteDefs())
            yield below, units


def _counted(spark: SparkSession, child: Any, units: list[Any], conditions: Any) -> list[Converted]:
    counts: list[Column] = []
    for place, unit in enumerate(units):
        there, lost = conditions(unit)
        counts.append(F.count_if(there).alias(f"rows{place}"))
        counts.append(F.count_if(there & lost).alias(f"lost{place}"))
    jvm: Any = spark._jvm
    try:
        rows = DataFrame(jvm.org.apache.spark.sql.classic.Dataset.ofRows(spark._jsparkSession, child), spark)
        row = rows.agg(*counts).collect()[0]
    except (PySparkException, Py4JJavaError):  # not computable alone: in a correlated subquery, or behind a filter
        return []
    return [
        Converted(
            columns=tuple(sorted({str(text.name()) for text in _attributes(unit)})),
            sql=" ".join(str(unit.sql()).split()),
            type=str(unit.dataType().simpleString()),
            rows=row[f"rows{place}"],
            lost=row[f"lost{place}"],
        )
        for place, unit in enumerate(units)
    ]


def _attempts(expression: Any) -> Iterator[Any]:
    """The expressions that are null where a text has no value: try_ functions, and choices that look at the text."""
    if kind(expression) == "Alias":
        yield from _attempts(expression.child())
        return
    if kind(expression) in _CHOICES and _is_typed(expression) and _texts(expression):
        parts = list(items(expression.children()))
        asked = {_id(text) for condition in conditions_of(parts) for text in _texts(condition)}
        if asked & {_id(text) for value in values_of(parts) for text in _texts(value)}:
            yield expression
            return
    if _is_attempt(expression) or (kind(expression) == "Coalesce" and any(map(_is_attempt, _arguments(expression)))):
        yield expression
        return
    for child in items(expression.children()):
        yield from _attempts(child)


def _is_attempt(expression: Any) -> bool:
    # The type comes last: parts of a window have none.
    attempt = str(expression.sql()).lower().startswith("try_")
    return attempt and bool(_texts(expression)) and _is_typed(expression)


def _is_typed(expression: Any) -> bool:
    name = str(expression.dataType().simpleString())
    return name in ("int", "bigint", "double", "float", "date", "timestamp", "timestamp_ntz") or name.startswith("dec")


def _arguments(coalesce: Any) -> list[Any]:
    return [part for part in items(coalesce.children()) if _texts(part)]


def _local_times(expression: Any) -> Iterator[Any]:
    return (part for part in nested(expression) if kind(part) == "ToUTCTimestamp" and _attributes(part))


def _numbers(expression: Any) -> Iterator[Any]:
    """The parts that turn one text into a number that may have a fraction."""
    for part in nested(expression):
        if not _has_type(part):
            continue
        children = [child for child in items(part.children()) if _has_type(child) and _is_string(child)]
        texts = {_id(text) for child in children for text in _texts(child)}
        if len(texts) == 1 and _is_typed(part) and str(part.dataType().simpleString())[:2] in ("de", "do", "fl"):
            yield part


def _has_type(expression: Any) -> bool:
    """Whether an expression yields a value; Spark raises an error for the type of a window or its frame."""
    return not kind(expression).rstrip("$").endswith(_NOT_VALUES)


def _texts(expression: Any) -> list[Any]:
    return [part for part in _attributes(expression) if _is_string(part)]


def _is_string(expression: Any) -> bool:
    # The type comes last: parts of a window have none.
    return kind(expression) != "Literal" and str(expression.dataType().simpleString()) == "string"


def _attributes(expression: Any) -> list[Any]:
    return [part for part in nested(expression) if kind(part) == "AttributeReference"]


def _runs(unit: Any) -> bool:
    return not any(kind(part) in _UNRUNNABLE or "Subquery" in kind(part) for part in nested(unit))


def _identity(unit: Any) -> tuple[str, ...]:
    return (str(unit.sql()), *(str(_id(part)) for part in _attributes(unit)))


def _id(attribute: Any) -> int:
    return int(attribute.exprId().id())


def _column(expression: Any) -> Column:
    context: Any = SparkContext._active_spark_context
    jvm = context._jvm
    return ClassicColumn(jvm.org.apache.spark.sql.classic.ExpressionUtils.column(expression))


def _value(unit: Any) -> Column:
    """The value of a conversion; of a coalesce, without its constants: a text must not silently become 0."""
    return F.coalesce(*map(_column, _arguments(unit))) if kind(unit) == "Coalesce" else _column(unit)


def _there(unit: Any) -> Column:
    """Whether a text that the value is made of is not empty."""
    values = values_of(list(items(unit.children()))) if kind(unit) in _CHOICES else [unit]
    there = F.lit(False)
    for text in (text for value in values for text in _texts(value)):
        there = there | F.coalesce(_column(text) != "", F.lit(False))
    return there


def _text(unit: Any) -> Column:
    return _column(_texts(unit)[0])


def _shortened(unit: Any) -> Column:
    return _text(unit).rlike(_GROUPED) & (F.abs(_column(unit)) < 1000)


def _local(unit: Any) -> Column:
    return _column(unit.children().apply(0))


def _doubtful(unit: Any) -> Column:
    """Whether the clocks of the zone never show a local time, or show it again after they were set back."""
    zone, instant, local = _column(unit.children().apply(1)), _column(unit), _local(unit)
    doubtful = F.from_utc_timestamp(instant, zone) != local
    for shift in _SHIFTS:
        for moved in (instant + F.expr(f"INTERVAL {shift}"), instant - F.expr(f"INTERVAL {shift}")):
            doubtful = doubtful | (F.from_utc_timestamp(moved, zone) == local)
    return doubtful
