"""A stored suite gives the same results with GX alone as with ZiGong, on valid tables and planted faults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import great_expectations as gx
import pytest
from pyspark.sql import DataFrame, SparkSession

from schemas.contracts import table_contract, table_names
from tests.support.cases import Cases, frame_of
from tests.support.finished import REPOSITORY
from tests.support.points import CELLS, GOOD, POINTS, job_at, points
from zigong.quality.audit import audit_published
from zigong.quality.measures import AuditContext
from zigong.quality.published_suite import OF_THE_TABLE_ALONE, published_suite

QUICK = "observation_points"


def by_gx(rows: DataFrame, folder: Path, table: str) -> dict[str, bool]:
    """Whether each rule of the stored suite passes, evaluated by GX alone."""
    suite = gx.get_context(mode="file", project_root_dir=folder / "quality").suites.get(f"{table}_published")
    asset = gx.get_context(mode="ephemeral").data_sources.add_spark("lake").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    results = batch.validate(suite).results
    raised = [found.exception_info for found in results if "observed_value" not in found.result and not found.success]
    assert not any(item.get("raised_exception", True) for item in raised), raised
    return {found.expectation_config.meta["rule"]: bool(found.success) for found in results}


def by_zigong(rows: DataFrame, folder: Path, table: str) -> dict[str, bool]:
    """Whether each rule passes on the rows; a broken quarantine rule passes, since its rows are removed."""
    verdict = audit_published(rows, table_contract(table), AuditContext(run_id="r"), folder)
    return {
        item.rule: item.passed and not (item.severity == "quarantine" and item.observed) for item in verdict.results
    }


def planted(cases: Cases) -> Iterator[tuple[list[dict[str, object]], set[str]]]:
    """A good row with rows that break some rules, and those rules; rows to quarantine are planted separately."""
    rules = cases.contract.row_rules
    for quarantined in (True, False):
        alike = [rule.name for rule in rules if (rule.severity == "quarantine") is quarantined]
        for half in (set(alike[::2]), set(alike[1::2])):
            broken = [case for case in cases.of_rows() if case.breaks and case.breaks <= half]
            if broken:
                yield (
                    [dict(cases.good), *(dict(case.row) for case in broken)],
                    {rule for case in broken for rule in case.breaks},
                )


def tables() -> list[object]:
    return [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.soak]) for name in table_names()]


@pytest.mark.parametrize("table", tables())
def test_gx_alone_finds_the_rules_that_planted_rows_break_and_no_others(
    spark: SparkSession, tmp_path: Path, table: str
) -> None:
    cases = Cases(table)
    types = {column.name: column.type for column in cases.contract.columns}
    row_rules = {rule.name for rule in cases.contract.row_rules}
    for number, (rows, broken) in enumerate(planted(cases)):
        frame, folder = frame_of(spark, rows, types), tmp_path / str(number)
        ours = by_zigong(frame, folder, table)
        theirs = by_gx(frame, folder, table)
        assert {rule for rule in row_rules if not theirs[rule]} == broken
        assert {rule: theirs[rule] for rule in row_rules} == {rule: ours[rule] for rule in row_rules}


@pytest.mark.parametrize("table", tables())
def test_gx_alone_agrees_with_zigong_on_one_row_no_rows_and_a_duplicate_key(
    spark: SparkSession, tmp_path: Path, table: str
) -> None:
    cases = Cases(table)
    types = {column.name: column.type for column in cases.contract.columns}
    good = frame_of(spark, [cases.good], types)
    for name, frame in {"one": good, "none": good.where("false"), "twice": good.unionByName(good)}.items():
        ours = by_zigong(frame, tmp_path / name, table)
        theirs = by_gx(frame, tmp_path / name, table)
        assert theirs == {rule: ours[rule] for rule in theirs}, name
        assert theirs.get("key_is_unique", True) is (name != "twice" or not cases.contract.key)
        assert theirs.get("has_rows", True) is (name != "none" or "has_rows" not in theirs)


@pytest.mark.parametrize("eligible", [0, 1, pytest.param(2, marks=pytest.mark.soak)])
def test_gx_alone_agrees_with_zigong_on_a_share(spark: SparkSession, tmp_path: Path, eligible: int) -> None:
    some = points(spark, GOOD[:eligible]) if eligible else points(spark, GOOD).where("false")
    rows = some.unionByName(points(spark, GOOD[2:5], eligible=False, reason="in arrears"))
    ours = by_zigong(rows, tmp_path, POINTS)
    theirs = by_gx(rows, tmp_path, POINTS)
    assert theirs["some_points_are_eligible"] is ours["some_points_are_eligible"] is bool(eligible)


@pytest.mark.soak
def test_the_documented_code_evaluates_a_published_table_and_finds_manual_changes(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_at(tmp_path, "first")
    version = job.publish(POINTS, points(spark, GOOD), cells=CELLS)
    assert broken_by_documented_lines(spark, tmp_path, version, capsys) == []
    for frame in (points(spark, GOOD[:1]), points(spark, ["late"], eligible=False)):
        frame.write.format("delta").mode("append").save(job.paths.table(POINTS))
    changed = broken_by_documented_lines(spark, tmp_path, version + 2, capsys)
    assert sorted(changed) == ["key_is_unique", "reason_states_exclusion"]


def broken_by_documented_lines(
    spark: SparkSession, root: Path, version: int, capsys: pytest.CaptureFixture[str]
) -> Sequence[str]:
    """Runs the lines of docs/quality.md on a lakehouse and returns the rules that they print as broken."""
    (lines,) = re.findall(
        r"```python\n(import great_expectations.*?)```", (REPOSITORY / "docs/quality.md").read_text(), re.DOTALL
    )
    named = (
        lines.replace("/lake", str(root))
        .replace("RUN_ID", "first")
        .replace('"versionAsOf", 3', f'"versionAsOf", {version}')
    )
    capsys.readouterr()
    exec(named, {"spark": spark})  # noqa: S102 - our own documentation
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {words[0] for words in printed} == suite_rules()
    return [rule for rule, passed in printed if passed == "False"]


def suite_rules() -> set[str]:
    contract = table_contract(POINTS)
    alone = [rule.name for rule in contract.table_rules if rule.measure in OF_THE_TABLE_ALONE]
    return {*(rule.name for rule in contract.row_rules), *alone}


@pytest.mark.parametrize("table", table_names())
def test_every_rule_of_a_contract_is_in_its_suite_or_listed_as_evaluated_by_zigong_only(table: str) -> None:
    contract = table_contract(table)
    suite = published_suite(contract)
    included = [found.meta["rule"] for found in suite.expectations]
    assert sorted([*included, *suite.meta["evaluated_by_zigong_only"]]) == sorted(
        [*(rule.name for rule in contract.row_rules), *(rule.name for rule in contract.table_rules)]
    )
