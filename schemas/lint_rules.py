"""Finds problems of the quality entries of a contract; each entry is checked independently of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from open_data_contract_standard.model import DataQuality, SchemaObject, SchemaProperty

from schemas.contracts import Rule
from schemas.findings import LintFinding
from schemas.rules import (
    DATASET_ENGINE,
    ROW_ENGINE,
    SEVERITIES,
    TABLE_ENGINE,
    RowRule,
    column_rules,
    entry_rule,
    measure_fault,
)

_BOUNDS = ("mustBe", "mustBeBetween", "mustBeGreaterOrEqualTo", "mustBeLessOrEqualTo")
_OTHER_BOUNDS = ("mustBeGreaterThan", "mustBeLessThan", "mustNotBe", "mustNotBeBetween")
_NOT_OF_ROWS = tuple(severity for severity in SEVERITIES if severity != "quarantine")


def rule_findings(table: SchemaObject) -> tuple[list[LintFinding], list[Rule]]:
    """The findings on every entry, and the rules that can be read anyway, so that their SQL is checked."""
    findings: list[LintFinding] = []
    rules: list[Rule] = []
    for item in table.properties or []:
        rules += column_rules(item.model_copy(update={"quality": None}))
        for position, entry in enumerate(item.quality or []):
            checks = [*_common(entry, SEVERITIES), *_column_entry(entry)]
            where = f"column {item.name}: {_called(entry, position)}"
            rules += _read(entry, partial(_rules_of_column, item), where, checks, findings)
    for position, entry in enumerate(table.quality or []):
        of_rows = entry.engine == ROW_ENGINE and entry.metric != "rowCount"
        checks = [*_common(entry, SEVERITIES if of_rows else _NOT_OF_ROWS), *_table_entry(entry)]
        where = _called(entry, position)
        rules += _read(entry, partial(_rules_of_table, str(table.name)), where, checks, findings)
    return findings + _doubled(rules, table), rules


def _called(entry: DataQuality, position: int) -> str:
    return f"rule {entry.name}" if entry.name else f"rule {position + 1} without a name"


def _rules_of_column(item: SchemaProperty, entry: DataQuality) -> list[RowRule]:
    return column_rules(item.model_copy(update={"required": False, "quality": [entry]}))


def _rules_of_table(table: str, entry: DataQuality) -> list[Rule]:
    return [entry_rule(entry, table)]


def _read(
    entry: DataQuality,
    reader: Callable[[DataQuality], list[RowRule]] | Callable[[DataQuality], list[Rule]],
    where: str,
    checks: list[tuple[str, str]],
    findings: list[LintFinding],
) -> list[Rule]:
    """The rules of an entry; an error that no check has reported becomes a finding."""
    findings += [LintFinding(where=where, found=found, expected=expected) for found, expected in checks]
    try:
        return [*reader(entry.model_copy(update={"severity": None}))]
    except (ValueError, KeyError, TypeError) as error:
        if not checks:
            findings.append(LintFinding(where=where, found=str(error), expected="an entry that becomes a rule"))
        return []


def _common(entry: DataQuality, severities: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if not entry.name:
        yield "no name", "a unique name"
    if not (entry.description or "").strip():
        yield "no description", "a sentence that explains the rule"
    if entry.severity is not None and entry.severity not in severities:
        yield f"severity {entry.severity}", f"severity: {', '.join(severities)}"


def _column_entry(entry: DataQuality) -> Iterator[tuple[str, str]]:
    if entry.metric != "invalidValues":
        yield f"metric {entry.metric}", f"metric invalidValues, or a {ROW_ENGINE} rule of the table"
        return
    values = (entry.arguments or {}).get("validValues")
    if not isinstance(values, list) or not values:
        yield f"validValues {values}", "arguments: {validValues: [...]} with at least one value"
    elif len({(type(value), str(value)) for value in values}) < len(values):
        yield f"validValues {values}", "no duplicate values"
    if entry.mustBe not in (None, 0):
        yield f"mustBe {entry.mustBe}", "mustBe: 0, no row holds another value"


def _table_entry(entry: DataQuality) -> Iterator[tuple[str, str]]:
    implementation = entry.implementation
    if entry.metric == "rowCount":
        yield from _bounds(entry, rows=True)
    elif entry.metric is not None:
        yield f"metric {entry.metric}", f"metric rowCount, or engine {ROW_ENGINE}, {TABLE_ENGINE} or {DATASET_ENGINE}"
    elif entry.engine == ROW_ENGINE:
        if not isinstance(implementation, str) or not implementation.strip():
            yield f"implementation {implementation!r}", "implementation: the condition of every row, in Spark SQL"
    elif entry.engine == DATASET_ENGINE:
        holds = implementation.get("holds") if isinstance(implementation, dict) else implementation
        extra = set(implementation) - {"holds", "per"} if isinstance(implementation, dict) else set()
        if not isinstance(holds, str) or not holds.strip() or extra:
            yield (
                f"implementation {implementation!r}",
                "implementation: the condition, or {holds: condition, per: column}",
            )
    elif entry.engine == TABLE_ENGINE:
        yield from _measure(entry)
        yield from _bounds(entry, rows=False)
    else:
        yield f"engine {entry.engine}", f"engine: {ROW_ENGINE}, {TABLE_ENGINE}, {DATASET_ENGINE}"


def _measure(entry: DataQuality) -> Iterator[tuple[str, str]]:
    arguments = entry.implementation if isinstance(entry.implementation, dict) else {}
    fault = measure_fault(str(arguments.get("measure", "")), set(arguments) - {"measure"})
    if fault is not None:
        yield fault


def _bounds(entry: DataQuality, *, rows: bool) -> Iterator[tuple[str, str]]:
    allowed = (*_BOUNDS, "mustBeGreaterThan") if rows else _BOUNDS
    expected = f"bounds: {', '.join(allowed)}"
    ignored = [name for name in _OTHER_BOUNDS if name not in allowed and getattr(entry, name) is not None]
    if ignored:
        yield ", ".join(ignored), expected
    if not ignored and all(getattr(entry, name) is None for name in allowed):
        yield "no bound", expected
    low, high = entry.mustBeBetween or (entry.mustBeGreaterOrEqualTo, entry.mustBeLessOrEqualTo)
    if low is not None and high is not None and low > high:
        yield f"bounds {low} to {high}", "a lower bound that is not above the upper one"


def _doubled(rules: list[Rule], table: SchemaObject) -> list[LintFinding]:
    """Names of more than one rule, including the rule derived from the key."""
    names = [rule.name for rule in rules if rule.name]
    if any(item.primaryKeyPosition is not None for item in table.properties or []):
        names.append("key_is_unique")
    return [
        LintFinding(where=f"rule {name}", found=f"{count} rules of this name", expected="a unique name")
        for name, count in Counter(names).items()
        if count > 1
    ]
