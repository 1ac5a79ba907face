"""Row rules of a contract as Spark expressions: every rule of every column in one pass."""

from __future__ import annotations

import re

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import TableContract

REASONS = "_reasons"


def holds(condition: str) -> Column:
    """Whether a row satisfies a condition; a condition that is null is satisfied."""
    return F.coalesce(F.expr(condition), F.lit(True))


def broken_rules(contract: TableContract) -> Column:
    """Names of the rules of severity ``quarantine`` that a row breaks, in contract order.

    A satisfied rule yields an empty string, which ``array_remove`` drops. A filter with a lambda would be equivalent,
    but Spark interprets it and all its conditions, four times slower than compiled code.
    """
    checks = ", ".join(
        f"if(coalesce(({rule.condition}\n), true), '', '{rule.name}')"
        for rule in contract.row_rules
        if rule.severity == "quarantine"
    )
    # As one SQL text: built from columns, every part of it would be a call of the JVM of its own.
    return F.expr(f"array_remove(CAST(array({checks}) AS array<string>), '')")


def conform(frame: DataFrame, contract: TableContract) -> DataFrame:
    """Exactly the contract's columns and types, plus ``_reasons``, the broken rules."""
    columns = [F.col(column.name).cast(column.type).alias(column.name) for column in contract.columns]
    return frame.select(*columns).withColumn(REASONS, broken_rules(contract))


def audited_columns(contract: TableContract) -> list[str]:
    """Columns that the audit of conformed rows may read in addition to ``_reasons``.

    These are the key columns, and every column that a table rule or a row rule without quarantine uses.
    """
    texts = [rule.condition for rule in contract.row_rules if rule.severity != "quarantine"]
    texts += [str(value) for rule in contract.table_rules for value in rule.arguments.values()]
    # In counts.events only counts is a column; SQL names are case-insensitive.
    words = {word for text in texts for word in re.findall(r"(?<![.\w])\w+", text.lower())}
    return [name for name in contract.column_names if name in contract.key or name.lower() in words]


def counts_by_rule(contract: TableContract) -> list[Column]:
    """Aggregates over conformed rows, named by rule: the number of rows that break it.

    A rule of severity ``quarantine`` counts the rows it removes; the others count among the remaining rows.
    """
    stays = F.size(REASONS) == 0
    return [
        F.count_if(
            F.array_contains(REASONS, rule.name) if rule.severity == "quarantine" else stays & ~holds(rule.condition)
        ).alias(rule.name)
        for rule in contract.row_rules
    ]
