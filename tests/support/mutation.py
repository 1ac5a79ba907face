"""Evaluates mutants of rules on the fixtures: a mutant is caught if a fixture's outcome differs from the stated one.

Outcomes of conditions are columns over the rows of a table, so a table takes a few Spark jobs, not one per mutant. A
mutant that Spark cannot analyse or run would be caught before any row is evaluated; it is counted separately.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import TypeVar

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract, table_names
from schemas.rules import DatasetRule, RowRule, TableRule
from tests.support import mutants as made
from tests.support.cases import Cases, ViewCases, frame_of
from tests.support.mutants import Mutant
from zigong.dataset.audit import broken_counts
from zigong.quality.measures import measured
from zigong.quality.rows import REASONS, conform, holds

Outcome = TypeVar("Outcome")
CLOSE = 1e-6  # figures of the fixtures are rounded


@dataclass(frozen=True, kw_only=True)
class MutantOutcome:
    """A mutant and its outcome; ``caught`` is None if Spark could not run it."""

    table: str
    mutant: Mutant
    caught: bool | None


def evaluate_rows(spark: SparkSession, cases: Cases) -> Iterator[MutantOutcome]:
    """Mutants of row rules, over every row of the fixtures."""
    rows = cases.of_rows()
    frame = conform(frame_of(spark, [case.row for case in rows], types_of(cases)), cases.contract)
    found = list(made.row_mutants(cases.contract))
    outcomes = over_rows(frame, {i: condition for i, mutant in enumerate(found) if (condition := _condition(mutant))})
    for i, mutant in enumerate(found):
        satisfied = [mutant.rule.name not in case.breaks for case in rows]
        yield MutantOutcome(table=cases.table, mutant=mutant, caught=_differs(mutant, satisfied, outcomes.get(i)))


def evaluate_measures(spark: SparkSession, cases: Cases, folder: Path) -> Iterator[MutantOutcome]:
    """Mutants of table rules: bounds against stated measurements, arguments and keys on small frames."""
    for mutant in made.bound_mutants(cases.contract):
        yield MutantOutcome(table=cases.table, mutant=mutant, caught=_bounds_caught(mutant, cases))
    if "frame" in cases.stated:
        yield from _arguments(spark, cases, folder)
        yield from _keys(spark, cases)


def evaluate_dataset(spark: SparkSession, cases: ViewCases) -> Iterator[MutantOutcome]:
    """Mutants of dataset rules: of single rows as columns, of groups as the number that is broken."""
    contract = cases.members.contract
    found = list(made.dataset_mutants(contract, cases.types))
    rows, groups = cases.alone(), cases.groups()
    alone = frame_of(spark, [case.row for case in rows], cases.types)
    outcomes = over_rows(
        alone, {i: c for i, mutant in enumerate(found) if not _per(mutant) and (c := _condition(mutant))}
    )
    grouped = frame_of(spark, [row for group, _ in groups for row in group], cases.types)
    counts = over_groups(
        grouped, {i: m.changed for i, m in enumerate(found) if _per(m) and isinstance(m.changed, DatasetRule)}
    )
    for i, mutant in enumerate(found):
        if _per(mutant):
            expected = sum(mutant.rule.name in breaks for _, breaks in groups)
            caught = expected > 0 if _same_condition(mutant) else _unlike(counts[i], expected)
        else:
            satisfied = [mutant.rule.name not in case.breaks for case in rows]
            caught = _differs(mutant, satisfied, outcomes.get(i))
        yield MutantOutcome(table="dataset_members", mutant=mutant, caught=caught)


def write_report(evaluated: Sequence[MutantOutcome], file: Path) -> dict[str, object]:
    """Writes flat figures: mutants, caught and share, in total and by kind, and the survivors by name."""
    counted = [item for item in evaluated if item.caught is not None]
    generated = [item for item in counted if item.mutant.rule.name.endswith("_is_present")]
    stated = [item for item in counted if item not in generated]
    report: dict[str, object] = {
        **_figures("", counted),
        **_figures("stated_rules_", stated),
        "not_analysable": len(evaluated) - len(counted),
    }
    for kind in sorted({item.mutant.kind for item in counted}):
        report |= _figures(f"{kind}_", [item for item in counted if item.mutant.kind == kind])
    report["survivors"] = [
        f"{item.table}.{item.mutant.rule.name}: {item.mutant.kind}: {item.mutant.detail}"
        for item in counted
        if not item.caught
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def evaluate_all(spark: SparkSession, folder: Path) -> list[MutantOutcome]:
    """Every mutant of every shipped contract."""
    return [
        item
        for table in table_names()
        for item in (
            *evaluate_rows(spark, Cases(table)),
            *evaluate_measures(spark, Cases(table), folder),
            *(evaluate_dataset(spark, ViewCases(Cases(table))) if table_contract(table).dataset_rules else ()),
        )
    ]


def types_of(cases: Cases) -> dict[str, str]:
    """Columns and types of the table."""
    return {column.name: column.type for column in cases.contract.columns}


def over_rows(frame: DataFrame, conditions: Mapping[int, str]) -> dict[int, list[bool] | None]:
    """Whether each row satisfies each condition; None for a condition that Spark rejects."""

    def run(some: Mapping[int, str]) -> dict[int, list[bool]]:
        rows = frame.select(*(holds(condition).alias(str(i)) for i, condition in some.items())).collect()
        return {i: [row[str(i)] for row in rows] for i in some}

    return _of_each(conditions, run)


def over_groups(frame: DataFrame, rules: Mapping[int, DatasetRule]) -> dict[int, int | None]:
    """Number of groups that break each rule; None for a rule that Spark rejects."""

    def run(some: Mapping[int, DatasetRule]) -> dict[int, int]:
        counts = broken_counts(frame, [replace(rule, name=str(i)) for i, rule in some.items()])
        return {i: counts[str(i)] for i in some}

    return _of_each(rules, run)


def _of_each(items: Mapping[int, object], run: Callable[..., Mapping[int, Outcome]]) -> dict[int, Outcome | None]:
    """Runs all at once; if Spark rejects them, runs each half separately, so only rejected ones have no outcome."""
    try:
        return dict(run(items)) if items else {}
    except PySparkException:
        if len(items) == 1:
            return dict.fromkeys(items, None)
    keys = list(items)
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    return {i: found for half in halves for i, found in _of_each({k: items[k] for k in half}, run).items()}


def _arguments(spark: SparkSession, cases: Cases, folder: Path) -> Iterator[MutantOutcome]:
    others = {name: table_contract(name) for name in table_names()}
    found = list(made.argument_mutants(cases.contract, others))
    stated = cases.stated["frame"]
    rows = conform(frame_of(spark, cases.frame_rows(), types_of(cases)), cases.contract).persist()
    rules = {
        i: replace(mutant.changed, name=f"{mutant.rule.name}@{i}")
        for i, mutant in enumerate(found)
        if isinstance(mutant.changed, TableRule)
    }

    def run(some: Mapping[int, TableRule]) -> dict[int, tuple[float | None]]:
        contract = replace(cases.contract, table_rules=tuple(some.values()))
        context = cases.context(spark, contract.table_rules, folder)
        measures = measured(
            rows, contract, context, rejected=stated.get("rejected", 0), dropped=stated.get("dropped", 0)
        )
        return {i: (measures.of_rules[rule.name].observed,) for i, rule in some.items()}

    outcomes = _of_each(rules, run)
    rows.unpersist()
    for i, mutant in enumerate(found):
        outcome, expected = outcomes[i], stated["observed"][mutant.rule.name]
        caught = None if outcome is None else outcome[0] is None or not isclose(outcome[0], expected, rel_tol=CLOSE)
        yield MutantOutcome(table=cases.table, mutant=mutant, caught=caught)


def _keys(spark: SparkSession, cases: Cases) -> Iterator[MutantOutcome]:
    """Duplicates of each faulty key, counted together over one copy of the rows per key."""
    found = list(made.key_mutants(cases.contract))
    rows = conform(frame_of(spark, cases.key_rows(), types_of(cases)), cases.contract)
    kept = rows.where(F.size(REASONS) == 0)
    keys = [
        F.struct(F.lit(i).alias("i"), F.to_json(F.struct(*mutant.key)).alias("key")) for i, mutant in enumerate(found)
    ]
    if not keys:
        return
    counted = (
        kept.select(F.explode(F.array(*keys)).alias("of"))
        .groupBy("of.i")
        .agg((F.count("*") - F.count_distinct("of.key")).alias("doubled"))
    )
    doubled = {row["i"]: row["doubled"] for row in counted.collect()}
    for i, mutant in enumerate(found):
        yield MutantOutcome(table=cases.table, mutant=mutant, caught=doubled[i] != 1)


def _bounds_caught(mutant: Mutant, cases: Cases) -> bool:
    assert isinstance(mutant.rule, TableRule)
    inside, outside = cases.bounds(mutant.rule)
    if mutant.kind in {"rule_dropped", "severity"}:
        return bool(outside)
    assert isinstance(mutant.changed, TableRule)
    return not all(made.within(mutant.changed, value) for value in inside) or any(
        made.within(mutant.changed, value) for value in outside
    )


def _differs(mutant: Mutant, satisfied: Sequence[bool], outcome: Sequence[bool] | None) -> bool | None:
    """Whether a mutant is caught; a dropped rule, or one of another severity, is caught if a fixture breaks it."""
    if _same_condition(mutant):
        return not all(satisfied)
    return None if outcome is None else list(outcome) != list(satisfied)


def _same_condition(mutant: Mutant) -> bool:
    return mutant.kind in {"rule_dropped", "severity"}


def _condition(mutant: Mutant) -> str | None:
    if isinstance(mutant.changed, RowRule | DatasetRule) and not _same_condition(mutant):
        return mutant.changed.condition
    return None


def _per(mutant: Mutant) -> str:
    assert isinstance(mutant.rule, RowRule | DatasetRule)
    return mutant.rule.per if isinstance(mutant.rule, DatasetRule) else ""


def _unlike(count: int | None, expected: int) -> bool | None:
    return None if count is None else count != expected


def _figures(prefix: str, items: Sequence[MutantOutcome]) -> dict[str, object]:
    caught = sum(bool(item.caught) for item in items)
    return {f"{prefix}mutants": len(items), f"{prefix}caught": caught, f"{prefix}share": round(caught / len(items), 4)}
