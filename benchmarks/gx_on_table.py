"""The cost of evaluating a published table with Great Expectations, compared with our audit of the same table.

`gx_on_table.py ROOT RUN_ID TABLE`: a lakehouse, a run in it and a table that the run published. Each method runs in its
own process: `ours` checks all rules as `zigong quality check` does; `published` evaluates the suite that the run
stored, with GX only; `plain` evaluates the rules with a built-in GX expectation: row count, key, missing values.
Prints seconds of the first time in a fresh session and of the fastest of three more times, and theirs divided by ours.
GX keeps the rows in memory or not, whichever is faster.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import great_expectations as gx
import great_expectations.expectations as gxe
from pyspark.sql import DataFrame
from rich.console import Console
from rich.table import Table

from benchmarks.builders.clock import measure_warm, print_figures
from benchmarks.sequences import Figures, program_figures
from schemas.contracts import TableContract, table_contract
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.session import open_spark
from zigong.lakehouse.tables import open_pinned
from zigong.quality.audit import audit_published
from zigong.quality.measures import AuditContext
from zigong.quality.published_suite import published_suite
from zigong.recipe import Engine
from zigong.runs.run import Run

WARM_TIMES = 3
WAYS = ("ours", "plain", "plain_cached", "published", "published_cached")


def main(root: str, run_id: str, table: str) -> None:
    """Measures every method and prints the table."""
    found = {way: program_figures([sys.executable, __file__, way, root, run_id, table]) for way in WAYS}
    best = {
        way: {clock: min(value, found[f"{way}_cached"][clock]) for clock, value in found[way].items()}
        for way in ("plain", "published")
    }
    report(f"{table} of {run_id}, {int(found['ours']['rows']):,} rows", {"ours": found["ours"], **best})


def report(title: str, ways: dict[str, Figures]) -> None:
    """Seconds of each method, and theirs over ours."""
    shown = Table(title=title, title_justify="left")
    for column in ("way", "rules", "first s", "x", "CPU s", "x", "warm s", "x", "warm CPU s", "x"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    for way, seconds in ways.items():
        cells = [way, f"{seconds['rules']:.0f}"]
        for clock in ("wall", "cpu", "warm_wall", "warm_cpu"):
            cells += [f"{seconds[clock]:.1f}", f"{seconds[clock] / ways['ours'][clock]:.2f}"]
        shown.add_row(*cells)
    Console(width=110).print(shown)


def measured(way: str, root: str, run_id: str, table: str, threads: str) -> None:
    """One method: checks the table repeatedly and prints its seconds."""
    paths, contract = LakehousePaths.at(root), table_contract(table)
    version = Run(run_id=run_id, folder=paths.local("_runs", run_id)).manifest()["tables"][table]
    engine = Engine(spark_master=f"local[{threads}]")
    spark = open_spark(engine, app_name="gx_on_table", log=Path(tempfile.mkdtemp(), "spark.log"))
    rules = 0

    def evaluate() -> None:
        nonlocal rules
        rows = open_pinned(spark, paths, table, version)
        rules = ours(rows, contract) if way == "ours" else by_gx(rows, contract, way)

    figures = measure_warm(evaluate, between=spark.catalog.clearCache, times=WARM_TIMES)
    print_figures({**figures, "rules": float(rules), "rows": float(open_pinned(spark, paths, table, version).count())})
    spark.stop()


def ours(rows: DataFrame, contract: TableContract) -> int:
    """Runs our audit and returns the number of rules evaluated."""
    verdict = audit_published(rows, contract, AuditContext(run_id="bench"), Path(tempfile.mkdtemp()))
    return sum(1 for item in verdict.results if item.observed is not None)


def by_gx(rows: DataFrame, contract: TableContract, way: str) -> int:
    """Runs GX and returns the number of rules evaluated.

    Raises:
        SystemExit: GX could not evaluate a rule, or reports one as broken.
    """
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_spark("bench", persist=way.endswith("_cached"))
    batch_of = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    suite = published_suite(contract)
    if way.startswith("plain"):
        suite = gx.ExpectationSuite(name="plain", expectations=plain(suite, contract))
    results = batch_of.get_batch({"dataframe": rows}).validate(suite, result_format="BASIC").results
    if not all(found.success for found in results):
        raise SystemExit(f"{way}: {[found.expectation_config.meta for found in results if not found.success]}")
    return len(results)


def plain(suite: gx.ExpectationSuite, contract: TableContract) -> list[gxe.Expectation]:
    """What needs no SQL of ours."""
    kept = (gxe.ExpectColumnValuesToNotBeNull, gxe.ExpectTableRowCountToBeBetween)
    asked = [found for found in suite.expectations if isinstance(found, kept)]
    key = list(contract.key)
    unique = gxe.ExpectColumnValuesToBeUnique(column=key[0]) if len(key) == 1 else None
    return [*asked, unique or gxe.ExpectCompoundColumnsToBeUnique(column_list=key)]


if __name__ == "__main__":
    (measured if sys.argv[1] in WAYS else main)(*sys.argv[1:])
