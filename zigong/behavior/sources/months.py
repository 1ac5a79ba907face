"""Times that a mapping's SQL reads from a text without a day: the month becomes its first day, before it is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame

from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.plans import items, kind, nested, own_nodes

_PARSERS = frozenset({"ParseToTimestamp", "ParseToDate", "ToUnixTimestamp", "UnixTimestamp", "GetTimestamp"})
_ENDS = frozenset({"LastDay", "AddMonths", "AddMonthsBase", "DateAddYMInterval", "TimestampAddYMInterval"})
_QUOTED = re.compile(r"'[^']*'")
_DAY, _MONTH_OR_YEAR = re.compile(r"[dDFEeu]"), re.compile(r"[MLyqQ]")


def month_findings(query: DataFrame) -> list[SourceFinding]:
    """One finding for each pattern of a time without a day whose value is not moved to the end of its month.

    Args:
        query: the rows of a section as its SQL yields them; only their plan is read.
    """
    found: dict[tuple[str, str], SourceFinding] = {}
    for _, expressions, _ in own_nodes(query._jdf.queryExecution().analyzed()):
        for parser, pattern in (item for expression in expressions for item in _early(expression)):
            columns = {str(part.name()) for part in nested(parser) if kind(part) == "AttributeReference"}
            sql = " ".join(str(parser.sql()).split())
            found[sql, pattern] = SourceFinding(
                section="SQL",
                column=", ".join(sorted(columns)) or None,
                problem=f"the pattern {pattern} has no day, so that a month becomes its first day: {sql}",
                action="a month is known at its end: CAST(last_day(...) AS TIMESTAMP) + INTERVAL 1 DAY; nothing if the "
                "row was known on the first day",
                blocking=False,
                lossy=True,
            )
    return list(found.values())


def _early(expression: Any) -> Iterator[tuple[Any, str]]:
    """The parsers of an expression with their pattern, without those inside a function that moves to another month."""
    if kind(expression) in _ENDS:
        return
    children = list(items(expression.children()))
    if kind(expression) in _PARSERS:
        for pattern in (str(child.value()) for child in children[1:] if kind(child) == "Literal"):
            if _has_no_day(pattern):
                yield expression, pattern
    for child in children:
        yield from _early(child)


def _has_no_day(pattern: str) -> bool:
    letters = _QUOTED.sub("", pattern)
    return bool(_MONTH_OR_YEAR.search(letters)) and not _DAY.search(letters)
