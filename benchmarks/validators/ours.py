"""ZiGong's own audit of a published table, as `zigong quality check` runs it: measures, suite and verdict file."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyspark.sql import DataFrame

from benchmarks.builders.clock import measure_warm, print_figures
from benchmarks.builders.ours import open_engine
from benchmarks.validators import WARM_TIMES, audited_table_rules, contract, violation_figures
from zigong.quality.audit import audit_published
from zigong.quality.measures import AuditContext


def violations(rows: DataFrame, folder: Path) -> dict[str, int]:
    """The audit's result for every rule that needs only the table."""
    verdict = audit_published(rows, contract(), AuditContext(run_id="bench"), folder)
    results = {item.rule: item for item in verdict.results}
    found = {rule.name: int(results[rule.name].observed or 0) for rule in contract().row_rules}
    for rule in audited_table_rules():
        result = results[rule.name]
        found[rule.name] = int(result.observed or 0) if rule.measure == "duplicate_keys" else int(not result.passed)
    return found


def main(source: str, target: str, events: str, threads: str) -> None:
    """Evaluates the rules repeatedly and reports."""
    spark = open_engine(int(threads), int(events))
    found: dict[str, int] = {}
    figures = measure_warm(lambda: found.update(violations(spark.read.parquet(source), Path(target))), times=WARM_TIMES)
    print_figures({**figures, **violation_figures(found)})
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
