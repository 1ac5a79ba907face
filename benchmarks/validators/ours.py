"""ZiGong's own audit of a published table, as `zigong quality check` runs it: measures, suite and verdict file."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyspark.sql import DataFrame

from benchmarks.builders.clock import measure_warm, tell
from benchmarks.builders.ours import open_engine
from benchmarks.validators import WARM_TIMES, contract, judged_table_rules, told
from zigong.quality.audit import judge_published
from zigong.quality.measures import AuditContext


def violations(rows: DataFrame, folder: Path) -> dict[str, int]:
    """What the audit says of every rule that needs nothing beside the table."""
    verdict = judge_published(rows, contract(), AuditContext(run_id="bench"), folder)
    results = {item.rule: item for item in verdict.results}
    found = {rule.name: int(results[rule.name].observed or 0) for rule in contract().row_rules}
    for rule in judged_table_rules():
        result = results[rule.name]
        found[rule.name] = int(result.observed or 0) if rule.measure == "duplicate_keys" else int(not result.passed)
    return found


def main(source: str, target: str, events: str, threads: str) -> None:
    """Judges, again and again, and reports."""
    spark = open_engine(int(threads), int(events))
    found: dict[str, int] = {}
    figures = measure_warm(lambda: found.update(violations(spark.read.parquet(source), Path(target))), times=WARM_TIMES)
    tell({**figures, **told(found)})
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
