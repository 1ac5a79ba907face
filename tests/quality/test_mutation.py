"""Every rule has rows or measurements that break it and others that do not, and faults in rules are found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract, table_names
from tests.support.cases import FIXTURES, Cases, ViewCases, frame_of
from tests.support.mutation import CLOSE, evaluate_all, types_of, write_report
from zigong.dataset.audit import broken_counts
from zigong.quality.measures import Measurement, duplicate_keys, measured
from zigong.quality.rows import REASONS, audited_columns, conform, holds
from zigong.quality.suite import evaluated, open_context
from zigong.quality.verdict import pending_results

pytestmark = pytest.mark.usefixtures("for_small_frames")
REPORT = Path(__file__).parents[2] / "build" / "mutation.json"


@pytest.fixture(scope="module")
def for_small_frames(request: pytest.FixtureRequest) -> Iterator[None]:
    """Settings that reduce Spark's planning and compiling: each frame here has a few rows."""
    conf = request.getfixturevalue("spark").conf
    small = {
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
    }
    before = {name: conf.get(name) for name in small}
    for name, value in small.items():
        conf.set(name, value)
    yield
    for name, value in before.items():
        conf.set(name, value)


@pytest.mark.parametrize("table", table_names())
def test_every_row_rule_is_broken_by_its_bad_rows_and_by_no_other(spark: SparkSession, table: str) -> None:
    cases = Cases(table)
    rows, rules = cases.of_rows(), cases.contract.row_rules
    frame = conform(frame_of(spark, [case.row for case in rows], types_of(cases)), cases.contract)
    counted = [rule for rule in rules if rule.severity != "quarantine"]
    found = frame.select(REASONS, *(holds(rule.condition).alias(rule.name) for rule in counted)).collect()
    for case, row in zip(rows, found, strict=True):
        assert {*row[REASONS], *(rule.name for rule in counted if not row[rule.name])} == case.breaks, case.row
    assert {rule.name for rule in rules} == {name for case in rows for name in case.breaks}
    assert {rule.name: rule.severity for rule in rules} == {rule.name: cases.severity(rule.name) for rule in rules}


@pytest.mark.parametrize("table", [name for name in table_names() if table_contract(name).key])
def test_every_table_rule_measures_the_stated_value_on_its_small_frame(
    spark: SparkSession, table: str, tmp_path: Path
) -> None:
    cases = Cases(table)
    contract, stated = cases.contract, cases.stated["frame"]
    conformed = conform(frame_of(spark, cases.frame_rows(), types_of(cases)), contract)
    rows = conformed.select(*audited_columns(contract), REASONS)  # no rule needs more
    context = cases.context(spark, contract.table_rules, tmp_path)
    counts = {name: stated.get(name, 0) for name in ("rejected", "dropped")}
    of_rules = measured(rows, contract, context, **counts).of_rules
    expected = {"key_is_unique": 0, **stated["observed"]}
    assert {rule.name: of_rules[rule.name].observed for rule in contract.table_rules} == pytest.approx(
        expected, rel=CLOSE
    )
    keyed = conform(frame_of(spark, cases.key_rows(), types_of(cases)), contract)
    assert duplicate_keys(keyed.where(F.size(REASONS) == 0), contract.key) == 1


def test_every_bound_admits_values_just_inside_and_rejects_values_just_outside(tmp_path: Path) -> None:
    """One suite evaluates the measurements of all tables."""
    rules, found, expected = [], {}, {}
    for cases in map(Cases, table_names()):
        for rule in cases.contract.table_rules:
            assert rule.severity == cases.severity(rule.name), (cases.table, rule.name)
            inside, outside = cases.bounds(rule)
            for i, value in enumerate([*inside, *outside]):
                name = f"{cases.table}.{rule.name}.{value}"
                rules.append(replace(rule, name=name))
                found[name], expected[name] = Measurement(value=value, observed=value), i < len(inside)
    results = evaluated(open_context(tmp_path), "bounds", pending_results(rules, found), run_id="r")
    assert {item.rule: item.passed for item in results} == expected


def test_every_dataset_rule_is_broken_by_its_bad_samples_and_groups_and_by_no_other(spark: SparkSession) -> None:
    cases = ViewCases(Cases("dataset_members"))
    rules = cases.members.contract.dataset_rules
    alone, together = ([rule for rule in rules if bool(rule.per) is grouped] for grouped in (False, True))
    rows, groups = cases.alone(), cases.groups()
    frame = frame_of(spark, [case.row for case in rows], cases.types)
    found = frame.select(*(holds(rule.condition).alias(rule.name) for rule in alone)).collect()
    for case, row in zip(rows, found, strict=True):
        assert {name for name, satisfied in row.asDict().items() if not satisfied} == case.breaks, case.row
    expected = {rule.name: sum(rule.name in case.breaks for case in rows) for rule in alone}
    assert broken_counts(frame, alone) == expected
    valid = [row for group, breaks in groups if not breaks for row in group]
    every = [row for group, _ in groups for row in group]
    broken = {rule.name: sum(rule.name in breaks for _, breaks in groups) for rule in together}
    assert broken_counts(frame_of(spark, valid, cases.types), together) == dict.fromkeys(broken, 0)
    assert broken_counts(frame_of(spark, every, cases.types), together) == broken
    assert min([*expected.values(), *broken.values()]) > 0
    assert {cases.members.severity(rule.name) for rule in rules} == {rule.severity for rule in rules}


@pytest.mark.soak
def test_nineteen_of_twenty_mutants_are_caught_and_each_survivor_has_a_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    report = write_report(evaluate_all(spark, tmp_path), REPORT)
    print("\n".join(f"{name:32} {value}" for name, value in report.items() if name != "survivors"))  # noqa: T201
    assert report["share"] >= 0.95, report["survivors"]  # type: ignore[operator]
    assert report["stated_rules_share"] >= 0.95, report["survivors"]  # type: ignore[operator]
    explained = yaml.safe_load((FIXTURES / "survivors.yml").read_text(encoding="utf-8"))
    assert sorted(report["survivors"]) == sorted(name for group in explained for name in group["survivors"])  # type: ignore[call-overload]
