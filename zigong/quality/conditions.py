"""Checks the SQL of a contract's rules with Spark's analyser, over an empty table with the contract's columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import and_

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, DateType, TimestampNTZType, TimestampType

from schemas.contracts import Rule
from schemas.findings import LintFinding
from schemas.lint import Lint
from schemas.rules import DatasetRule, RowRule

TIMES = (TimestampType, TimestampNTZType, DateType)
_SQL = ("of", "among", "mature")  # arguments of measures that are SQL expressions over the columns


def condition_findings(spark: SparkSession, lint: Lint) -> list[LintFinding]:
    """Finds unknown Spark types, and rules that do not parse, do not resolve, or are not boolean conditions.

    The rules of a dataset use columns of several tables, so they are only parsed. Runs no Spark job. Row rules are
    analysed together first, and one by one only if that fails.
    """
    findings, ddl = _types(lint.columns)
    empty = spark.createDataFrame([], ddl)
    valid = _are_conditions(empty, lint.rules)
    to_check = [rule for rule in lint.rules if not (valid and isinstance(rule, RowRule))]
    return findings + [finding for rule in to_check for finding in _of_rule(empty, rule)]


def _types(columns: Mapping[str, str]) -> tuple[list[LintFinding], str]:
    """The columns as DDL; a column of unknown type becomes void (NULL of any type), so rules over it are checked."""
    findings, parts = [], []
    for name, text in columns.items():
        try:
            DataType.fromDDL(text)
            parts.append(f"`{name}` {text}")
        except ParseException:
            parts.append(f"`{name}` void")
            findings.append(LintFinding(where=f"column {name}", found=f"physicalType {text}", expected="a Spark type"))
    return findings, ", ".join(parts) or "nothing void"


def _are_conditions(empty: DataFrame, rules: Iterable[Rule]) -> bool:
    """Whether every row rule is a condition; takes two analyses for any number of rules."""
    conditions = [F.expr(rule.condition) for rule in rules if isinstance(rule, RowRule)]
    try:
        types = [field.dataType for field in empty.select(*conditions).schema]
        empty.where(reduce(and_, conditions, F.lit(True)))
    except AnalysisException:
        return False
    return all(isinstance(type_, BooleanType) for type_ in types)


def _of_rule(empty: DataFrame, rule: Rule) -> Iterator[LintFinding]:
    where = f"rule {rule.name}"
    if isinstance(rule, RowRule):
        yield from _of_rows(empty, where, rule.condition)
    elif isinstance(rule, DatasetRule):
        yield from _unparsed(empty, where, rule.condition)
    else:
        for argument in _SQL:
            if argument in rule.arguments:
                yield from _argument(empty, where, rule.measure, argument, str(rule.arguments[argument]))


def _argument(empty: DataFrame, where: str, measure: str, argument: str, sql: str) -> Iterator[LintFinding]:
    """Checks an argument: ``of`` is any value for psi; ages and ``mature`` need a time; others are conditions."""
    if argument == "mature" or (argument == "of" and measure in {"psi", "age_days"}):
        type_, reason = _type(empty, sql)
        if type_ is None:
            yield LintFinding(where=where, found=reason, expected=f"{argument}: an expression over the columns")
        elif measure != "psi" and not isinstance(type_, TIMES):
            expected = f"{argument}: a time or a date"
            yield LintFinding(where=where, found=f"{sql} is {type_.simpleString()}", expected=expected)
    else:
        yield from _of_rows(empty, where, sql)


def _of_rows(empty: DataFrame, where: str, sql: str) -> Iterator[LintFinding]:
    """Checks that a condition resolves, is boolean and concerns one row, so it has no aggregate or window."""
    type_, reason = _type(empty, sql)
    if type_ is None:
        yield LintFinding(where=where, found=reason, expected="a condition over the columns of the table")
    elif not isinstance(type_, BooleanType):
        yield LintFinding(where=where, found=f"{sql} is {type_.simpleString()}", expected="a condition: true or false")
    else:
        try:
            empty.where(F.expr(sql))
        except AnalysisException as error:
            yield LintFinding(where=where, found=_first_sentence(error), expected="a condition of a single row")


def _unparsed(empty: DataFrame, where: str, sql: str) -> Iterator[LintFinding]:
    try:
        empty.select(F.expr(sql))
    except ParseException as error:
        yield LintFinding(where=where, found=_first_sentence(error), expected="Spark SQL")
    except AnalysisException:
        return  # its columns are those of the joined dataset


def _type(empty: DataFrame, sql: str) -> tuple[DataType | None, str]:
    try:
        return empty.select(F.expr(sql)).schema[0].dataType, ""
    except AnalysisException as error:  # a ParseException is one
        return None, _first_sentence(error)


def _first_sentence(error: AnalysisException) -> str:
    """The first sentence of Spark's message, without its error codes and plan."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    sentence = lines[0].partition(" SQLSTATE: ")[0]
    return sentence.partition("] ")[2] if sentence.startswith("[") else sentence
