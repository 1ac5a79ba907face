"""The quality entries of a contract as typed rules: of rows, of a staged table, and of a dataset across its tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from open_data_contract_standard.model import DataQuality, SchemaProperty

# What happens when a rule is broken: the row is quarantined, a warning is given, or the table is not published.
SEVERITIES = ("quarantine", "warn", "block")

# What a table rule measures, with the arguments it takes; `?` marks those that may be left out.
MEASURES = {
    "rows": (),
    "duplicate_keys": (),  # implied by the key of a contract, without an entry
    "refused_share": (),  # share of rows in that a rule or the transform sent to quarantine
    "rows_to_last": ("versions",),  # rows divided by the median of the last published verdicts
    # share of rows that match a condition, among those that match another; `mature` names a timestamp column: only rows
    # whose value is not after the recipe's as_of count
    "share": ("of", "among?", "mature?"),
    "share_to_last": ("of", "among?", "mature?", "versions"),  # a share minus the mean of the last published verdicts
    "unmatched": ("column", "to"),  # rows whose key is not in another table; NULL is ignored
    "age_days": ("of",),  # from the newest value of a timestamp to the recipe's as_of
    "psi": ("of", "among?"),  # population stability index of an expression against the pinned reference
}
ROW_ENGINE, TABLE_ENGINE, DATASET_ENGINE = "spark-row", "zigong-table", "spark-dataset"


class _Named:
    """The identity of a rule."""

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with the rule, but not with its description."""
        demand = {name: value for name, value in vars(self).items() if name != "description"}
        return hashlib.sha256(json.dumps(demand, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class RowRule(_Named):
    """A condition that every row must satisfy.

    Attributes:
        condition: Spark SQL over the columns of the table; true and null satisfy the rule.
        severity: quarantine rejects the row; warn counts it; block prevents the table from being published.
    """

    name: str
    condition: str
    severity: str = "quarantine"
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class TableRule(_Named):
    """Bounds of one measure of the remaining rows.

    Attributes:
        measure: a key of ``MEASURES``.
        low: smallest allowed value, None: no bound.
        high: largest allowed value, None: no bound.
    """

    name: str
    measure: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    severity: str = "block"
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetRule(_Named):
    """A condition on a dataset across its tables, checked before training.

    Attributes:
        condition: Spark SQL over one sample of the joined dataset, or an aggregate over a group of samples.
        per: the column that groups samples; empty: every sample is checked separately.
    """

    name: str
    condition: str
    per: str = ""
    severity: str = "block"
    description: str = ""


def column_rules(item: SchemaProperty) -> list[RowRule]:
    """Presence of a required column, and its enumerations."""
    rules = [RowRule(name=f"{item.name}_is_present", condition=f"`{item.name}` IS NOT NULL")] if item.required else []
    for entry in item.quality or []:
        if entry.metric != "invalidValues":
            raise ValueError(
                f"column {item.name}: rule {entry.name}: a column supports the metric invalidValues only, "
                f"not {entry.metric!r}; write a {ROW_ENGINE} rule of the table"
            )
        allowed = ", ".join(_literal(value) for value in (entry.arguments or {})["validValues"])
        rules.append(
            RowRule(name=entry.name or "", condition=f"`{item.name}` IN ({allowed})", **_common(entry, "quarantine"))
        )
    return rules


def entry_rule(entry: DataQuality, table: str) -> RowRule | TableRule | DatasetRule:
    """The rule of one quality entry of a table.

    Raises:
        ValueError: the metric, engine, measure or bounds of the entry are not supported.
    """
    name = entry.name or ""
    if entry.metric == "rowCount":
        return TableRule(name=name, measure="rows", **_bounds(entry, name), **_common(entry, "block"))
    if entry.engine == ROW_ENGINE:
        return RowRule(name=name, condition=str(entry.implementation), **_common(entry, "quarantine"))
    if entry.engine == DATASET_ENGINE:
        given = entry.implementation
        parts = given if isinstance(given, dict) else {"holds": str(given)}
        return DatasetRule(name=name, condition=parts["holds"], per=parts.get("per", ""), **_common(entry, "block"))
    if entry.engine == TABLE_ENGINE and isinstance(entry.implementation, dict):
        arguments = dict(entry.implementation)
        measure = str(arguments.pop("measure", ""))
        fault = measure_fault(measure, arguments)
        if fault is not None:
            raise ValueError(f"rule {name}: found {fault[0]}, expected {fault[1]}")
        return TableRule(
            name=name, measure=measure, arguments=arguments, **_bounds(entry, name), **_common(entry, "block")
        )
    raise ValueError(
        f"table {table}: rule {name}: metric {entry.metric!r} of engine {entry.engine!r} is not supported; "
        f"expected rowCount, {ROW_ENGINE}, {TABLE_ENGINE}, {DATASET_ENGINE}"
    )


def key_rule(key: tuple[str, ...]) -> TableRule:
    """The rule that no two rows of a table have the same key."""
    return TableRule(
        name="key_is_unique",
        measure="duplicate_keys",
        high=0,
        description=f"no two rows have the same {', '.join(key)}",
    )


def measure_fault(measure: str, arguments: Collection[str]) -> tuple[str, str] | None:
    """What was found and what is expected if a measure is unknown or takes other arguments; else None."""
    if measure not in MEASURES:
        return f"measure {measure or None}", f"measure: {', '.join(MEASURES)}"
    takes = MEASURES[measure]
    needed = {argument for argument in takes if not argument.endswith("?")}
    if needed <= set(arguments) <= {argument.rstrip("?") for argument in takes}:
        return None
    return (
        f"{measure} with {', '.join(sorted(arguments)) or 'nothing'}",
        f"{measure} with {', '.join(takes) or 'nothing'}",
    )


def _common(entry: DataQuality, default: str) -> dict[str, Any]:
    severity = entry.severity or default
    allowed = [name for name in SEVERITIES if default == "quarantine" or name != "quarantine"]
    if severity not in allowed:
        raise ValueError(f"rule {entry.name}: severity must be one of {', '.join(allowed)}; found {severity!r}")
    return {"severity": severity, "description": entry.description or ""}


def _bounds(entry: DataQuality, name: str) -> dict[str, Any]:
    """Both bounds, inclusive; a count greater than 0 means at least 1."""
    if entry.mustBe is not None:
        return {"low": entry.mustBe, "high": entry.mustBe}
    low, high = entry.mustBeBetween or (entry.mustBeGreaterOrEqualTo, entry.mustBeLessOrEqualTo)
    if entry.mustBeGreaterThan is not None and entry.metric == "rowCount":
        low = entry.mustBeGreaterThan + 1
    if low is None and high is None:
        raise ValueError(
            f"rule {name}: bounds must be mustBe, mustBeBetween, mustBeGreaterOrEqualTo or mustBeLessOrEqualTo "
            "(of rowCount also mustBeGreaterThan)"
        )
    return {"low": low, "high": high}


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "\\'") + "'"
