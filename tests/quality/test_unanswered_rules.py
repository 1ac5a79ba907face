"""A rule passes only if it was evaluated and satisfied, or if there is nothing to evaluate yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import great_expectations as gx
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.contracts import TableContract, parse_contract
from tests.support.points import CELLS, GOOD, POINTS, job_at, points
from zigong.errors import DataError
from zigong.lakehouse.tables import published_version
from zigong.quality import suite
from zigong.quality.audit import audit_table
from zigong.quality.measures import AuditContext
from zigong.quality.rows import conform
from zigong.quality.suite import evaluated, open_context
from zigong.quality.verdict import RuleResult, Verdict

UNANSWERED = "Great Expectations gave no result for this rule"
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: t
name: t
version: 1.0.0
status: active
schema:
  - name: t
    physicalType: table
    customProperties:
      - {property: person, value: nobody}
    properties:
      - name: k
        logicalType: string
        physicalType: string
        required: true
        primaryKey: true
        primaryKeyPosition: 1
        classification: none
      - {name: x, logicalType: number, physicalType: double, classification: none}
    quality:
      - name: share_of_few
        type: custom
        engine: zigong-table
        implementation: {measure: share, of: x > 1, among: x > 0}
        mustBeBetween: [0.1, 0.9]
      - name: as_many_as_before
        type: custom
        engine: zigong-table
        implementation: {measure: rows_to_last, versions: 5}
        mustBeBetween: [0.5, 2]
"""


def measured(rule: str, observed: float | None, **more: Any) -> RuleResult:
    plain = {"severity": "block", "fingerprint": "f", "low": None, "high": 0.0, "note": "", "description": ""}
    return RuleResult(**{**plain, "rule": rule, "value": observed, "observed": observed, "passed": True, **more})


def verdict(folder: Path, *results: RuleResult) -> Verdict:
    return Verdict(kept=1, refused=0, results=evaluated(open_context(folder / "quality"), "t", results, run_id="r"))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], None]], None]:
    """Lets a function edit the results of GX."""
    run = gx.Checkpoint.run

    def change(edit: Callable[[Any], None]) -> None:
        def edited(self: Any, **arguments: Any) -> Any:
            done = run(self, **arguments)
            (outcome,) = done.run_results.values()
            edit(outcome)
            return done

        monkeypatch.setattr(gx.Checkpoint, "run", edited)

    return change


def without(rule: str) -> Callable[[Any], None]:
    def edit(outcome: Any) -> None:
        outcome.results = [item for item in outcome.results if item.expectation_config.kwargs["column"] != rule]

    return edit


@pytest.mark.parametrize("severity", ["block", "warn", "quarantine"])
@pytest.mark.parametrize("observed", [0.0, 5.0])
def test_a_result_missing_from_gx_blocks_whatever_the_observation_and_severity(
    tmp_path: Path, answers: Callable[..., None], severity: str, observed: float
) -> None:
    answers(without("leak"))
    found = verdict(tmp_path, measured("leak", observed, severity=severity), measured("ok", 0.0))
    assert not found.passed
    (failure,) = found.failures
    assert failure.startswith("leak: expected ")
    assert failure.endswith(f"({UNANSWERED})")


def test_a_result_without_success_blocks(tmp_path: Path, answers: Callable[..., None]) -> None:
    def edit(outcome: Any) -> None:
        for item in outcome.results:
            item.success = None

    answers(edit)
    assert verdict(tmp_path, measured("leak", 0.0)).failures == (
        f"leak: expected at most 0, observed 0 ({UNANSWERED})",
    )


@pytest.mark.parametrize("lost", [{}, {"leak": "text"}], ids=["no column", "a text"])
def test_a_rule_at_which_gx_raises_blocks_even_where_it_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: dict[str, object]
) -> None:
    frame = pd.DataFrame([{"ok": 0.0, **lost}])
    monkeypatch.setattr(suite, "pd", SimpleNamespace(DataFrame=lambda _: frame))
    found = verdict(tmp_path, measured("leak", 0.0, severity="warn"), measured("ok", 0.0))
    assert found.failures == (f"leak: expected at most 0, observed 0 ({UNANSWERED})",)


@pytest.mark.parametrize("severity", ["block", "quarantine"])
def test_a_rule_without_observation_and_without_excuse_blocks(tmp_path: Path, severity: str) -> None:
    found = verdict(tmp_path, measured("leak", None, severity=severity), measured("ok", 0.0))
    (failure,) = found.failures
    assert failure.endswith("observed nothing (nothing was measured)")


def test_rules_without_any_observation_block_though_gx_evaluates_nothing(tmp_path: Path) -> None:
    assert len(verdict(tmp_path, measured("leak", None), measured("other", None)).failures) == 2


def test_a_warning_rule_without_observation_and_without_excuse_warns(tmp_path: Path) -> None:
    found = verdict(tmp_path, measured("rate", None, severity="warn", note="no row to take a share of"))
    assert found.passed
    assert found.warnings == ("rate: expected at most 0, observed nothing (no row to take a share of)",)


def test_a_blocking_rule_without_an_earlier_verdict_warns_and_the_table_passes(tmp_path: Path) -> None:
    why = "no earlier verdict to compare with"
    blocking = verdict(tmp_path / "block", measured("growth", None, note=why, excused=True))
    assert (blocking.failures, blocking.warnings) == (
        (),
        (f"growth: expected at most 0, observed nothing ({why})",),
    )
    warning = verdict(tmp_path / "warn", measured("growth", None, note=why, excused=True, severity="warn"))
    assert (warning.failures, warning.warnings) == ((), ())


@pytest.mark.parametrize("observed", [float("nan"), float("inf")])
@pytest.mark.parametrize("bounds", [(None, 0.0), (0.5, 2.0)])
def test_an_observation_that_is_not_a_number_blocks(
    tmp_path: Path, observed: float, bounds: tuple[float | None, float]
) -> None:
    rule = measured("leak", observed, low=bounds[0], high=bounds[1])
    assert not verdict(tmp_path, rule, measured("ok", 0.0)).passed


def audited_rows(spark: SparkSession, folder: Path, sql: str) -> Verdict:
    contract: TableContract = parse_contract(CONTRACT)
    rows = conform(spark.sql(sql), contract)
    return audit_table(rows, contract, AuditContext(run_id="r", earlier=lambda *_: ()), folder)


def test_a_share_of_no_row_blocks_a_table_with_rows_and_excuses_an_empty_one(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = audited_rows(spark, tmp_path / "rows", "SELECT 'a' AS k, 0.0D AS x")
    assert rows.failures == ("share_of_few: expected 0.1 to 0.9, observed nothing (no row to take a share of)",)
    empty = audited_rows(spark, tmp_path / "empty", "SELECT 'a' AS k, 0.0D AS x WHERE false")
    assert empty.passed
    assert [text.split(":")[0] for text in empty.warnings] == ["share_of_few", "as_many_as_before"]


def test_a_table_with_a_rule_missing_from_gx_is_not_published(
    spark: SparkSession, tmp_path: Path, answers: Callable[..., None]
) -> None:
    answers(without("key_is_unique"))
    twice = points(spark, GOOD).unionByName(points(spark, GOOD).where(F.col("user_id") == GOOD[0]))
    job = job_at(tmp_path, "first")
    with pytest.raises(DataError, match=r"key_is_unique: expected at most 0, observed 1 .*gave no result"):
        job.publish(POINTS, twice, cells=CELLS)
    assert published_version(job.paths, POINTS) == 0
