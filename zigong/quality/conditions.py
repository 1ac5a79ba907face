"""Reads the SQL of a contract's rules as Spark does, over an empty table of the contract's columns."""

from __future__ import annotations

import logging
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
from zigong.lakehouse.session import PYSPARK_ERRORS

TIMES = (TimestampType, TimestampNTZType, DateType)
_SQL = ("of", "among")  # arguments of measures that are SQL over the columns


def condition_findings(spark: SparkSession, lint: Lint) -> list[LintFinding]:
    """Types Spark does not know, and conditions that do not parse, do not resolve, or are no conditions.

    The rules of a dataset run over columns of several tables, so they are only parsed. Runs no Spark job. Row
    rules are analysed one by one only where all of them at once are not sound.
    """
    told = logging.getLogger(PYSPARK_ERRORS)  # would print the trace of every fault that is found
    before = told.level
    told.setLevel(logging.CRITICAL)
    try:
        findings, ddl = _types(lint.columns)
        empty = spark.createDataFrame([], ddl)
        sound = _are_conditions(empty, lint.rules)
        open_ = [rule for rule in lint.rules if not (sound and isinstance(rule, RowRule))]
        return findings + [finding for rule in open_ for finding in _of_rule(empty, rule)]
    finally:
        told.setLevel(before)


def _types(columns: Mapping[str, str]) -> tuple[list[LintFinding], str]:
    """The columns as DDL; one of no type becomes void, a NULL of any type, so that rules over it are looked at."""
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
    """Whether every row rule is a condition, in two analyses however many there are."""
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
    """``of`` of psi is any value of a row, of age_days a time; everything else is a condition."""
    if argument == "of" and measure in {"psi", "age_days"}:
        type_, told = _type(empty, sql)
        if type_ is None:
            yield LintFinding(where=where, found=told, expected=f"{argument}: an expression over the columns")
        elif measure == "age_days" and not isinstance(type_, TIMES):
            yield LintFinding(where=where, found=f"{sql} is {type_.simpleString()}", expected="of: a time or a date")
    else:
        yield from _of_rows(empty, where, sql)


def _of_rows(empty: DataFrame, where: str, sql: str) -> Iterator[LintFinding]:
    """A condition resolves, is boolean, and speaks of one row: an aggregate or a window does not."""
    type_, told = _type(empty, sql)
    if type_ is None:
        yield LintFinding(where=where, found=told, expected="a condition over the columns of the table")
    elif not isinstance(type_, BooleanType):
        yield LintFinding(where=where, found=f"{sql} is {type_.simpleString()}", expected="a condition: true or false")
    else:
        try:
            empty.where(F.expr(sql))
        except AnalysisException as error:
            yield LintFinding(where=where, found=_said(error), expected="a condition of one row alone")


def _unparsed(empty: DataFrame, where: str, sql: str) -> Iterator[LintFinding]:
    try:
        empty.select(F.expr(sql))
    except ParseException as error:
        yield LintFinding(where=where, found=_said(error), expected="Spark SQL")
    except AnalysisException:
        return  # its columns are those of the joined dataset


def _type(empty: DataFrame, sql: str) -> tuple[DataType | None, str]:
    try:
        return empty.select(F.expr(sql)).schema[0].dataType, ""
    except AnalysisException as error:  # a ParseException is one
        return None, _said(error)


def _said(error: AnalysisException) -> str:
    """The first sentence of what Spark says, without its codes and its plan."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    sentence = lines[0].partition(" SQLSTATE: ")[0]
    return sentence.partition("] ")[2] if sentence.startswith("[") else sentence
