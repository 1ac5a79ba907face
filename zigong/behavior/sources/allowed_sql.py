"""Reads the SQL of a mapping as Spark parses it, before anything runs: a query over its files, of allowed functions.

Whatever else a text states is refused by name: other tables and files, statements, programs, functions that reach the
JVM or the session, and variables, which Spark would replace by the process's environment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession

from zigong.behavior.sources.plans import inner_plan, items, kind
from zigong.behavior.sources.sql_functions import CHANGES, ORDER_DEPENDENT, REFUSED_FUNCTIONS, refusal_of

ROWS_BY_ORDER = frozenset({"GlobalLimit", "Offset", "Sample"})
_QUERY_NODES = ROWS_BY_ORDER | {
    "Aggregate", "Distinct", "Except", "Filter", "Generate", "Intersect", "Join", "LateralJoin", "LocalLimit",
    "LocalRelation", "OneRowRelation", "PipeOperator", "Pivot", "Project", "RepartitionByExpression", "Sort",
    "SubqueryAlias", "Union", "UnresolvedHaving", "UnresolvedHint", "UnresolvedInlineTable", "UnresolvedQualify",
    "UnresolvedRelation", "UnresolvedSubqueryColumnAliases", "UnresolvedTVFAliases", "UnresolvedTableValuedFunction",
    "UnresolvedWith", "Unpivot", "WithWindowDefinition",
}  # fmt: skip
_DYNAMIC_NAME = "ExpressionWithUnresolvedIdentifier"
_CLOCKS = frozenset({"unix_timestamp", "to_unix_timestamp"})  # without an argument they show the time of the run


@dataclass(kw_only=True)
class SqlReading:
    """What the text of a query states.

    Attributes:
        refused: what no mapping may do, in words.
        changing: functions, and names that may be functions, whose value differs at each run or shows the session.
        ordered: whether a value may depend on the order in which rows are read.
    """

    refused: list[str] = field(default_factory=list)
    changing: set[str] = field(default_factory=set)
    ordered: bool = False


def read_sql(spark: SparkSession, sql: str, tables: Iterable[str]) -> SqlReading:
    """Reads one query.

    Args:
        sql: its text, with values in place of parameters.
        tables: names of the files and views that it may read.

    Raises:
        ParseException: the text is not SQL.
    """
    if "${" in sql:  # Spark replaces ${env:NAME} before it parses a text, so the plan would hold the value
        return SqlReading(refused=["${...}, a variable of the process, is not allowed"])
    found = SqlReading()
    plan = spark._jsparkSession.sessionState().sqlParser().parsePlan(sql)
    _read_plan(plan, frozenset(name.lower() for name in tables), found)
    return found


def _read_plan(plan: Any, tables: frozenset[str], found: SqlReading) -> None:
    name = kind(plan)
    found.ordered |= name in ROWS_BY_ORDER
    if name not in _QUERY_NODES:
        found.refused.append(f"{name} is not part of a query over the files of the mapping")
        return
    if name == "UnresolvedRelation":
        _read_relation(plan, tables, found)
    elif name == "UnresolvedTableValuedFunction":
        _read_function(_dotted(plan.name()), has_arguments=True, found=found)
    elif name == "Sample" and "Some" not in str(plan.seed()):
        found.refused.append(f"TABLESAMPLE without REPEATABLE {CHANGES}")
    elif name == "UnresolvedWith":
        for defined in items(plan.innerChildren()):
            view = str(defined.alias()).lower()
            _read_plan(defined, tables | {view} if plan.allowRecursion() else tables, found)
            tables |= {view}
    elif name == "WithWindowDefinition":  # its windows are in a map, where expressions() does not look
        for window in items(plan.windowDefinitions().values().toSeq()):
            _read_expression(window, tables, found)
    for expression in items(plan.expressions()):
        _read_expression(expression, tables, found)
    for child in items(plan.children()):
        _read_plan(child, tables, found)


def _read_relation(relation: Any, tables: frozenset[str], found: SqlReading) -> None:
    name = _dotted(relation.multipartIdentifier())
    if relation.multipartIdentifier().length() > 1 or name.lower() not in tables:
        found.refused.append(f"{name} is none of the files and derived views of the mapping")


def _read_expression(expression: Any, tables: frozenset[str], found: SqlReading) -> None:
    name = kind(expression)
    if name == _DYNAMIC_NAME:
        found.refused.append("IDENTIFIER(...) names what only the run would show")
    elif name == "UnresolvedFunction":
        _read_function(_dotted(expression.nameParts()), has_arguments=expression.arguments().length() > 0, found=found)
    elif name == "UnresolvedGenerator":
        _read_function(str(expression.name().funcName()), has_arguments=True, found=found)
    elif name == "UnresolvedAttribute":  # CURRENT_DATE and others need no brackets; analysis tells them from columns
        attribute = _dotted(expression.nameParts()).lower()
        found.changing |= {attribute} & REFUSED_FUNCTIONS.keys()
    elif name in {"First", "Last", "AnyValue"}:  # their own syntax in the parser
        found.ordered = True
    if (plan := inner_plan(expression)) is not None:
        _read_plan(plan, tables, found)
    for child in items(expression.children()):
        _read_expression(child, tables, found)


def _read_function(name: str, *, has_arguments: bool, found: SqlReading) -> None:
    function = name.lower()
    for prefix in ("system.", "builtin."):
        function = function.removeprefix(prefix)
    reason = refusal_of(function)
    found.ordered |= function in ORDER_DEPENDENT
    if reason == CHANGES or (function in _CLOCKS and not has_arguments):
        found.changing.add(function)
    elif reason is not None:
        found.refused.append(f"{function}() {reason}")


def _dotted(parts: Any) -> str:
    return str(parts.mkString("."))
