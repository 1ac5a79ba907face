"""Mutants of the rules of a contract: rules with one fault each, derived from their names and texts.

A change that leaves the text unchanged, or that repeats another change of the rule, is not a mutant. Nor is a bound
that admits exactly the possible measurements that the old one admits: counts are whole numbers
from 0 on, shares lie in [0, 1], their differences in [-1, 1], indices and ages have no such limit but 0 below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from schemas.contracts import Rule, TableContract
from schemas.rules import DatasetRule, RowRule, TableRule
from tests.support.sql_mutants import sql_changes

COUNTS = ("rows", "duplicate_keys", "unmatched")
_DOMAINS = {
    "share": (0.0, 1.0),
    "refused_share": (0.0, 1.0),
    "share_to_last": (-1.0, 1.0),
    "age_days": (0.0, math.inf),
}
_OTHER_SEVERITY = {"quarantine": "warn", "block": "warn", "warn": "block"}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A rule with one fault.

    Attributes:
        kind: kind of the fault.
        rule: the shipped rule.
        changed: the rule with the fault; None if it was dropped.
        key: the faulty key of a uniqueness rule, which the rule itself does not contain.
    """

    kind: str
    rule: Rule
    changed: Rule | None
    key: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        """Description of the fault."""
        if self.changed is None or self.key:
            return ", ".join(self.key) or "dropped"
        before, after = vars(self.rule), vars(self.changed)
        return "; ".join(f"{name} {after[name]}" for name in before if before[name] != after[name])


def row_mutants(contract: TableContract) -> Iterator[Mutant]:
    """Faulty row rules. The contract does not state the severity of presence rules, so they have no severity mutant."""
    types = column_types(contract)
    for rule in contract.row_rules:
        yield from _of_condition(rule, types | lambda_types(rule.condition, types))
        if not rule.name.endswith("_is_present"):
            yield _severity(rule)


def dataset_mutants(contract: TableContract, view: Mapping[str, str]) -> Iterator[Mutant]:
    """Faulty dataset rules over a view of these columns and types."""
    for rule in contract.dataset_rules:
        yield from _of_condition(rule, view)
        yield _severity(rule)
        if rule.per:
            others = [name for name, kind in view.items() if kind == view[rule.per] and name != rule.per]
            yield from (Mutant(kind="group_swapped", rule=rule, changed=replace(rule, per=name)) for name in others)


def bound_mutants(contract: TableContract) -> Iterator[Mutant]:
    """Table rules that are dropped, have another severity or other bounds; their measurement is unchanged."""
    for rule in contract.table_rules:
        yield Mutant(kind="rule_dropped", rule=rule, changed=None)
        yield _severity(rule)
        seen = {_admitted(rule)}
        for kind, low, high in _other_bounds(rule):
            changed = replace(rule, low=low, high=high)
            if _admitted(changed) not in seen:
                seen.add(_admitted(changed))
                yield Mutant(kind=kind, rule=rule, changed=changed)


def argument_mutants(contract: TableContract, others: Mapping[str, TableContract]) -> Iterator[Mutant]:
    """Table rules with another measurement. ``others`` are the contracts of referenced tables."""
    types = column_types(contract)
    for rule in contract.table_rules:
        for name, value in rule.arguments.items():
            changes = {
                text: kind for kind, text in _of_argument(rule, name, str(value), types, others) if text != value
            }
            for text, kind in changes.items():
                new = int(text) if name == "versions" else text
                yield Mutant(kind=kind, rule=rule, changed=replace(rule, arguments={**rule.arguments, name: new}))
        if "among" in rule.arguments:
            fewer = {name: value for name, value in rule.arguments.items() if name != "among"}
            yield Mutant(kind="argument_dropped", rule=rule, changed=replace(rule, arguments=fewer))


def key_mutants(contract: TableContract) -> Iterator[Mutant]:
    """Uniqueness of a key in which a column is missing or replaced by another of its type."""
    types = {column.name: column.type for column in contract.columns}
    rules = [rule for rule in contract.table_rules if rule.measure == "duplicate_keys"]
    for rule in rules:
        for dropped in contract.key:
            rest = tuple(name for name in contract.key if name != dropped)
            if rest:
                yield Mutant(kind="key_column_dropped", rule=rule, changed=rule, key=rest)
            for other in (name for name in types if types[name] == types[dropped] and name not in contract.key):
                yield Mutant(kind="key_column_swapped", rule=rule, changed=rule, key=(*rest, other))


def column_types(contract: TableContract) -> dict[str, str]:
    """Names that SQL over the rows may use: columns, and fields of structs as ``column.field``."""
    types = {column.name: column.type for column in contract.columns}
    return types | {f"{name}.{field}": kind for name, text in types.items() for field, kind in _fields(text).items()}


def lambda_types(sql: str, types: Mapping[str, str]) -> dict[str, str]:
    """Fields of the elements that a lambda of a text such as ``forall(column, x -> ...)`` uses."""
    return {
        f"{variable}.{field}": kind
        for column, variable in re.findall(r"\((\w+), (\w+) ->", sql)
        for field, kind in _fields(types[column].removeprefix("array<").removesuffix(">")).items()
    }


def within(rule: TableRule, value: float) -> bool:
    """Whether a measurement is within the bounds, which are inclusive."""
    return (rule.low is None or value >= rule.low) and (rule.high is None or value <= rule.high)


def _of_condition(rule: RowRule | DatasetRule, types: Mapping[str, str]) -> Iterator[Mutant]:
    yield Mutant(kind="rule_dropped", rule=rule, changed=None)
    seen = {rule.condition}
    for kind, text in [("rule_negated", f"NOT ({rule.condition})"), *sql_changes(rule.condition, types)]:
        if text not in seen:
            seen.add(text)
            yield Mutant(kind=kind, rule=rule, changed=replace(rule, condition=text))


def _severity(rule: Rule) -> Mutant:
    changed = replace(rule, severity=_OTHER_SEVERITY[rule.severity])
    return Mutant(kind="severity", rule=rule, changed=changed)


def _other_bounds(rule: TableRule) -> Iterator[tuple[str, float | None, float | None]]:
    low, high = rule.low, rule.high
    yield "bounds_swapped", high, low
    if low is not None:
        step = _step(rule, low)
        yield "bound_dropped", None, high
        yield "bound_outward", low - step, high
        yield "bound_inward", low + step, high
    if high is not None:
        step = _step(rule, high)
        yield "bound_dropped", low, None
        yield "bound_outward", low, high + step
        yield "bound_inward", low, high - step


def _step(rule: TableRule, bound: float) -> float:
    """One unit of a count, one day, or a twentieth of the bound."""
    return 1 if rule.measure in {*COUNTS, "age_days"} else abs(bound) / 20


def _admitted(rule: TableRule) -> tuple[float, float] | None:
    """The possible measurements that are within the bounds; None if there are none."""
    least, most = _DOMAINS.get(rule.measure, (0.0, math.inf))
    low, high = (
        max(least, -math.inf if rule.low is None else rule.low),
        min(most, math.inf if rule.high is None else rule.high),
    )
    return (low, high) if low <= high else None


def _of_argument(
    rule: TableRule, name: str, value: str, types: Mapping[str, str], others: Mapping[str, TableContract]
) -> Iterator[tuple[str, str]]:
    if name == "versions":
        yield from (("constant", str(int(value) + step)) for step in (-1, 1))
    elif name == "column":
        yield from (("column", other) for other, kind in types.items() if kind == types[value])
    elif name == "to":
        table, _, target = value.partition(".")
        kinds = {column.name: column.type for column in others[table].columns}
        yield from (("column", f"{table}.{other}") for other, kind in kinds.items() if kind == kinds[target])
    else:
        yield from sql_changes(value, types)
        if rule.measure not in {"psi", "age_days"} or name == "among":
            yield "condition_negated", f"NOT ({value})"


def _fields(kind: str) -> dict[str, str]:
    """Names and types of the fields of ``struct<...>``, inner ones as ``field.inner``; none for others."""
    if not kind.startswith("struct<"):
        return {}
    fields: dict[str, str] = {}
    depth, start, inner = 0, 0, kind[len("struct<") : -1] + ","
    for i, sign in enumerate(inner):
        depth += (sign in "<(") - (sign in ">)")
        if sign == "," and depth == 0:
            name, _, text = inner[start:i].partition(":")
            name = name.strip()
            fields |= {name: text, **{f"{name}.{part}": kind for part, kind in _fields(text).items()}}
            start = i + 1
    return fields
