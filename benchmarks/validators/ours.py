"""ZiGong's own audit, as publish runs it: conform, measure, the suite and the verdict file. Nothing is staged between.

Without staging the reasons of a row are worked out in each pass over the rows; publish reads them from the stage.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyspark.sql import DataFrame

from benchmarks.builders.clock import measure_warm, tell
from benchmarks.builders.ours import open_engine
from benchmarks.validators import contract, judged_table_rules, told
from zigong.quality.audit import judge_table
from zigong.quality.measures import Beside
from zigong.quality.rows import conform


def violations(rows: DataFrame, folder: Path) -> dict[str, int]:
    """What the audit says of every rule that needs nothing beside the table."""
    verdict = judge_table(conform(rows, contract()), contract(), Beside(run_id="bench"), folder)
    results = {item.rule: item for item in verdict.results}
    found = {rule.name: int(results[rule.name].observed or 0) for rule in contract().row_rules}
    for rule in judged_table_rules():
        result = results[rule.name]
        found[rule.name] = int(result.observed or 0) if rule.measure == "duplicate_keys" else int(not result.passed)
    return found


def main(source: str, target: str, events: str, threads: str) -> None:
    """Judges twice and reports."""
    spark = open_engine(int(threads), int(events))
    found: dict[str, int] = {}
    figures = measure_warm(lambda: found.update(violations(spark.read.parquet(source), Path(target))))
    tell({**figures, **told(found)})
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
