"""The tools that the quality benchmark compares find the same violations."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from benchmarks.validators import contract, ours, planted, with_gx
from schemas.contracts import table_contract

ROWS, SLOTS = 400, 40
T, DAY = datetime(2025, 12, 1, tzinfo=UTC), date(2025, 12, 1)
BEFORE = datetime(2025, 11, 3, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def slotted(spark: SparkSession) -> DataFrame:
    """Valid sequences of one event each; more than one in twenty gets a fault."""
    event: tuple[Any, ...] = ("repayment", BEFORE, BEFORE, None, None, 0, {})
    certificate = (BEFORE, BEFORE, 1, "h")
    row = {
        "population": "p",
        "loan_id": "",
        "observation_at": T,
        "profile": {"age": "40"},
        "events": [event],
        "event_loans": [None],
        "loans": 0,
        "loan": None,
        "counts": (1, 1, 0),
        "certificate": certificate,
        "observation_date": DAY,
    }
    table = table_contract("user_sequences")
    rows = [
        {**row, "sequence_id": f"s{n}", "user_id": f"u{n}", "person_id": f"u{n}", "user_bucket": n % 8}
        for n in range(ROWS)
    ]
    ordered = [tuple(one[name] for name in table.column_names) for one in rows]
    return planted.with_slots(spark.createDataFrame(ordered, table.ddl), SLOTS)


@pytest.mark.soak
def test_every_compared_tool_finds_the_planted_faults(slotted: DataFrame, tmp_path: Path) -> None:
    rows = planted.planted(slotted).cache()
    wanted = {rule.name: 0 for rule in contract().row_rules} | {"has_rows": 0, "few_rows_are_refused": 1}
    wanted |= planted.planted_counts(slotted)
    assert min(wanted[rule] for rules in planted.FAULTS.values() for rule in rules) > 0
    assert ours.violations(rows, tmp_path) == wanted
    assert with_gx.violations(rows, "one_by_one", cached=False) == wanted
    assert with_gx.violations(rows, "suite", cached=False) == wanted
    rows.unpersist()
