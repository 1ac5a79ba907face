"""Classifies changes of rules: a stricter rule breaks producers, a looser one breaks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from schemas.changes import Change, breaking, compatible, wording
from schemas.contracts import Rule, TableContract
from schemas.describe import bounds_text
from schemas.rules import DatasetRule, RowRule, TableRule

STRICTNESS = ("warn", "quarantine", "block")
# The condition of an enumeration, as generated from a contract, and one of its values.
_ENUMERATION = re.compile(r"(`[^`]+` IN) \((.*)\)")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|[^,\s]+")


def rule_changes(old: TableContract, new: TableContract) -> Iterator[Change]:
    """Changes of rules by name, without the rules that follow from a column or the key."""
    before, after = _rules(old), _rules(new)
    removed = {name: rule for name, rule in before.items() if name not in after}
    for name, rule in after.items():
        if name in before:
            yield from _change(before[name], rule)
            continue
        renamed = [other for other, one in removed.items() if _demand(one) == _demand(rule)]
        if renamed:
            del removed[renamed[0]]
            yield compatible(
                f"rule {renamed[0]}", f"renamed to {name}", "the same condition; quarantine reasons use the new name"
            )
        elif rule.severity == "warn":
            yield compatible(f"rule {name}", "added, warns", "nothing is refused")
        else:
            yield breaking(
                f"rule {name}", f"added, {rule.severity}", "producers", "rows that were valid may be refused"
            )
    for name, rule in removed.items():
        yield compatible(f"rule {name}", f"removed, was {rule.severity}", "looser: nothing more is refused")


def _rules(contract: TableContract) -> dict[str, Rule]:
    derived = {"key_is_unique", *(f"{column.name}_is_present" for column in contract.columns if column.required)}
    return {rule.name: rule for rule in contract.rules if rule.name not in derived}


def _demand(rule: Rule) -> tuple[type[Rule], dict[str, Any]]:
    """What a rule requires, without its name and description."""
    return type(rule), {name: value for name, value in vars(rule).items() if name not in {"name", "description"}}


def _change(old: Rule, new: Rule) -> Iterator[Change]:
    where = f"rule {old.name}"
    if old.description != new.description:
        yield wording(where, "description reworded")
    if _demand(old) == _demand(new):
        return
    if new.severity == "warn":
        what = "its condition changed" if old.severity == "warn" else f"{old.severity} to warn"
        yield compatible(where, what, "nothing is refused")
        return
    if old.severity != new.severity:
        what = f"{old.severity} to {new.severity}"
        if STRICTNESS.index(new.severity) > STRICTNESS.index(old.severity):
            yield breaking(where, what, "producers", "a violation now rejects rows or the table")
        else:
            yield compatible(where, what, "a violation has a milder effect than before")
    yield from _demands(where, old, new)


def _demands(where: str, old: Rule, new: Rule) -> Iterator[Change]:
    """Changes of the condition, the measure or the bounds of a rule that refuses rows or a table."""
    if isinstance(old, TableRule) and isinstance(new, TableRule):
        if (old.measure, dict(old.arguments)) != (new.measure, dict(new.arguments)):
            yield breaking(
                where, f"measures {new.measure} differently", "producers", "the bounds apply to another value"
            )
        elif (old.low, old.high) != (new.low, new.high):
            yield _bounds(where, old, new)
    elif isinstance(old, RowRule) and isinstance(new, RowRule):
        if old.condition != new.condition:
            yield _condition(where, old.condition, new.condition)
    elif isinstance(old, DatasetRule) and isinstance(new, DatasetRule):
        if (old.condition, old.per) != (new.condition, new.per):
            yield breaking(where, "another condition", "producers", "a dataset that passed may be blocked")
    else:
        yield breaking(where, "another kind of rule", "producers", "valid rows may be refused")


def _bounds(where: str, old: TableRule, new: TableRule) -> Change:
    what = f"bounds {bounds_text(old)} to {bounds_text(new)}"
    lower = float("-inf") if new.low is None else new.low
    upper = float("inf") if new.high is None else new.high
    looser = lower <= (float("-inf") if old.low is None else old.low)
    looser = looser and upper >= (float("inf") if old.high is None else old.high)
    if looser:
        return compatible(where, what, "looser: everything that passed still passes")
    return breaking(where, what, "producers", "tighter: a table that passed may be refused")


def _condition(where: str, old: str, new: str) -> Change:
    before, after = _ENUMERATION.fullmatch(old), _ENUMERATION.fullmatch(new)
    if before and after and before[1] == after[1]:
        values, admitted = (set(_LITERAL.findall(found[2])) for found in (before, after))
        if values <= admitted:
            more = ", ".join(sorted(admitted - values))
            return compatible(where, f"allows {more}", "looser: everything that passed still passes")
        less = ", ".join(sorted(values - admitted))
        return breaking(where, f"no longer allows {less}", "producers", "rows that passed are refused")
    return breaking(
        where, "another condition", "producers", "rows that passed may be refused: SQL conditions are not compared"
    )
