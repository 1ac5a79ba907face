"""The same rules as checks of Databricks Labs DQX, on the local Spark: `with_dqx.py INPUT OUTPUT EVENTS THREADS`.

DQX requires a client of a Databricks workspace, which cannot exist here and which these checks never use: it gets a
stand-in. It reports the failed checks of every row; the rows of each check are counted. For a repeated key every row
fails, and the planted ones come in pairs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import MagicMock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from databricks.labs.dqx import check_funcs
from databricks.labs.dqx.engine import DQEngineCore
from databricks.labs.dqx.rule import DQDatasetRule, DQRowRule, DQRule
from databricks.sdk import WorkspaceClient
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.builders.clock import measure_warm, print_figures
from benchmarks.builders.ours import open_engine
from benchmarks.validators import (
    PLANTED_ROWS_OF_A_KEY,
    WARM_TIMES,
    any_row_rule_broken,
    audited_table_rules,
    contract,
    violation_figures,
)
from schemas.rules import RowRule, TableRule


def checks() -> list[DQRule]:
    """One check for each rule that needs only the table."""
    return [*map(_of_rows, contract().row_rules), *map(_of_table, audited_table_rules())]


def violations(rows: DataFrame) -> dict[str, int]:
    """DQX's result for each rule."""
    engine = DQEngineCore(MagicMock(spec=WorkspaceClient))
    checked = engine.apply_checks(rows, checks())
    failed = checked.select(F.explode("_errors.name").alias("rule")).groupBy("rule").count().collect()
    rows_of = {row["rule"]: row["count"] for row in failed}
    found = {rule.name: rows_of.get(rule.name, 0) for rule in contract().row_rules}
    for rule in audited_table_rules():
        rows_found = rows_of.get(rule.name, 0)
        found[rule.name] = (
            rows_found // PLANTED_ROWS_OF_A_KEY if rule.measure == "duplicate_keys" else int(rows_found > 0)
        )
    return found


def _of_rows(rule: RowRule) -> DQRule:
    column = rule.name.removesuffix("_is_present")
    if rule.condition == f"`{column}` IS NOT NULL":
        return DQRowRule(name=rule.name, check_func=check_funcs.is_not_null, column=column)
    return DQRowRule(
        name=rule.name, check_func=check_funcs.sql_expression, check_func_kwargs={"expression": rule.condition}
    )


def _of_table(rule: TableRule) -> DQRule:
    match rule.measure:
        case "rows":
            return DQDatasetRule(
                name=rule.name,
                check_func=check_funcs.is_aggr_not_less_than,
                column="*",
                check_func_kwargs={"aggr_type": "count", "limit": rule.low},
            )
        case "duplicate_keys":
            return DQDatasetRule(name=rule.name, check_func=check_funcs.is_unique, columns=list(contract().key))
        case _:
            return DQDatasetRule(
                name=rule.name,
                check_func=check_funcs.is_aggr_not_greater_than,
                column=F.expr(f"CAST({any_row_rule_broken()} AS int)"),
                check_func_kwargs={"aggr_type": "avg", "limit": rule.high},
            )


def main(source: str, _target: str, events: str, threads: str) -> None:
    """Evaluates the rules repeatedly and reports."""
    spark = open_engine(int(threads), int(events))
    found: dict[str, int] = {}
    figures = measure_warm(lambda: found.update(violations(spark.read.parquet(source))), times=WARM_TIMES)
    print_figures({**figures, **violation_figures(found)})
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
