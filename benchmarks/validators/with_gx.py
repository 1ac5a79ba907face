"""The same rules evaluated by Great Expectations on Spark: `with_gx.py WAY CACHED INPUT OUTPUT EVENTS THREADS`.

WAY one_by_one validates each expectation by itself, suite all as one suite, for which GX bundles its metrics. CACHED
(True or False) is whether GX keeps the rows in memory, as it does by default.
GX counts every row of a key that occurs again, and the planted ones come in pairs.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when GX is imported

import great_expectations as gx
import great_expectations.expectations as gxe
from pyspark.sql import DataFrame

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

FORMAT = "BASIC"  # counts and few values: cheaper than GX's default, SUMMARY


def expectations() -> dict[str, gxe.Expectation]:
    """One expectation for each rule that needs only the table."""
    rules = {rule.name: _of_rows(rule) for rule in contract().row_rules}
    return rules | {rule.name: _of_table(rule) for rule in audited_table_rules()}


def violations(rows: DataFrame, way: str, *, cached: bool) -> dict[str, int]:
    """GX's result for each rule.

    Args:
        way: ``one_by_one`` or ``suite``.
        cached: whether GX keeps the rows in memory.
    """
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_spark("bench", persist=cached).add_dataframe_asset("sequences")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    asked = expectations()
    if way == "one_by_one":
        results = [batch.validate(expectation, result_format=FORMAT) for expectation in asked.values()]
    else:
        suite = gx.ExpectationSuite(name="sequences", expectations=list(asked.values()))
        results = batch.validate(suite, result_format=FORMAT).results
    result_of = {result.expectation_config.meta["rule"]: result for result in results}
    failed = [rule for rule, result in result_of.items() if result.exception_info.get("raised_exception")]
    if failed:
        raise SystemExit(f"GX did not evaluate {', '.join(failed)}: {result_of[failed[0]].exception_info}")
    return {rule: _count(rule, result_of[rule]) for rule in asked}


def _of_rows(rule: RowRule) -> gxe.Expectation:
    column = rule.name.removesuffix("_is_present")
    if rule.condition == f"`{column}` IS NOT NULL":
        return gxe.ExpectColumnValuesToNotBeNull(column=column, meta={"rule": rule.name})
    return _no_rows(rule.name, f"SELECT * FROM {{batch}} WHERE NOT ({rule.condition})")  # noqa: S608 - our own rules


def _of_table(rule: TableRule) -> gxe.Expectation:
    match rule.measure:
        case "rows":
            return gxe.ExpectTableRowCountToBeBetween(min_value=rule.low, max_value=rule.high, meta={"rule": rule.name})
        case "duplicate_keys" if len(contract().key) == 1:
            return gxe.ExpectColumnValuesToBeUnique(column=contract().key[0], meta={"rule": rule.name})
        case "duplicate_keys":
            return gxe.ExpectCompoundColumnsToBeUnique(column_list=list(contract().key), meta={"rule": rule.name})
        case _:
            share = f"SELECT avg(CAST({any_row_rule_broken()} AS int)) AS share FROM {{batch}}"  # noqa: S608
            return _no_rows(rule.name, f"SELECT share FROM ({share}) WHERE share > {rule.high}")  # noqa: S608


def _no_rows(rule: str, query: str) -> gxe.Expectation:
    return gxe.UnexpectedRowsExpectation(unexpected_rows_query=query, meta={"rule": rule})


def _count(rule: str, result_of: gx.core.ExpectationValidationResult) -> int:
    if rule == "key_is_unique":
        return int(result_of.result["unexpected_count"]) // PLANTED_ROWS_OF_A_KEY
    if rule in {item.name for item in audited_table_rules()}:
        return int(not result_of.success)
    return int(result_of.result["unexpected_count" if "unexpected_count" in result_of.result else "observed_value"])


def main(way: str, cached: str, source: str, _target: str, events: str, threads: str) -> None:
    """Evaluates the rules repeatedly and reports."""
    spark = open_engine(int(threads), int(events))
    found: dict[str, int] = {}
    figures = measure_warm(
        lambda: found.update(violations(spark.read.parquet(source), way, cached=cached == str(True))),
        between=spark.catalog.clearCache,
        times=WARM_TIMES,
    )
    print_figures({**figures, **violation_figures(found)})
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
