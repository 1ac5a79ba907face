"""Row rules of a contract as one Spark expression: every rule of every column in one pass."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import TableContract

REASONS = "_reasons"


def broken_rules(contract: TableContract) -> Column:
    """Names of the row rules a row breaks, in contract order; a condition that is null holds."""
    checks = [F.when(~F.coalesce(F.expr(rule.condition), F.lit(True)), F.lit(rule.name)) for rule in contract.row_rules]
    return F.filter(F.array(*checks), lambda name: name.isNotNull())


def conform(frame: DataFrame, contract: TableContract) -> DataFrame:
    """Exactly the contract's columns and types, plus ``_reasons`` of broken rules."""
    columns = [F.col(column.name).cast(column.type).alias(column.name) for column in contract.columns]
    return frame.select(*columns).withColumn(REASONS, broken_rules(contract))
