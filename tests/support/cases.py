"""Rows and measurements to evaluate a contract's rules on, read from ``fixtures/TABLE.yaml``.

A file states, independently of the contract: one ``good`` row; ``holds``, changes that keep it good; ``breaks``,
changes with every rule they break; the columns that ``may_be_null`` and the ``words`` of enumerations; ``bounds``,
measurements of each table rule just inside and just outside; a small ``frame`` with its measurements; severities that
differ from the default. A text that begins with ``=`` is Spark SQL, any other value is one of the column's type.

Rows with a NULL and rows for words are generated here: NULL in a required column breaks ``COLUMN_is_present``, a word
outside the enumeration breaks ``COLUMN_is_known``, and NULL in another column does not repair a broken row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import DataFrame, SparkSession

from schemas.contracts import TableContract, table_contract
from schemas.rules import TableRule
from zigong.quality.bins import WHOLE, Bins
from zigong.quality.measures import AuditContext
from zigong.quality.reference import Reference, References

FIXTURES = Path(__file__).parents[1] / "quality" / "fixtures"
Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row and every rule that it breaks."""

    row: Values
    breaks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cases:
    """The fixtures of one table."""

    table: str

    @cached_property
    def contract(self) -> TableContract:
        return table_contract(self.table)

    @cached_property
    def stated(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((FIXTURES / f"{self.table}.yaml").read_text(encoding="utf-8"))
        return found

    @cached_property
    def good(self) -> Values:
        row: Values = self.stated["good"]
        return row

    def of_rows(self) -> tuple[Case, ...]:
        """Every row that row rules are evaluated on."""
        return (
            Case(row=self.good),
            *(Case(row={**self.good, **change}) for change in self.stated.get("holds", [])),
            *self._broken(),
            *self._nulls(),
            *self._words(),
            *self._still_broken(),
        )

    def severity(self, rule: str) -> str:
        """The severity of a rule according to the fixtures."""
        usual = "quarantine" if any(item.name == rule for item in self.contract.row_rules) else "block"
        bounds: Values = self.stated.get("bounds", {}).get(rule, {})
        return str(bounds.get("severity") or self.stated.get("severity", {}).get(rule, usual))

    def bounds(self, rule: TableRule) -> tuple[Sequence[float], Sequence[float]]:
        """Measurements just inside and just outside of the bounds of a table rule."""
        if rule.measure == "duplicate_keys":
            return [0], [1]
        stated = self.stated["bounds"][rule.name]
        return stated["inside"], stated["outside"]

    def key_rows(self) -> list[Values]:
        """The good row twice, and for each key column a row that differs only in it."""
        types = {column.name: column.type for column in self.contract.columns}
        ranges = {"string": "='{}k'", "timestamp": "=TIMESTAMP'{}' + INTERVAL 1 HOUR"}
        varied = [
            {**self.good, name: ranges.get(types[name], "={} + 1").format(self.good[name])}
            for name in self.contract.key
        ]
        return [self.good, self.good, *varied]

    def frame_rows(self) -> list[Values]:
        """Rows of the small frame on which the table rules are measured."""
        stated = self.stated["frame"]["rows"]
        return [
            {**self.good, **{name: value for name, value in change.items() if name != "times"}}
            for change in stated
            for _ in range(change.get("times", 1))
        ]

    def context(self, spark: SparkSession, rules: Sequence[TableRule], folder: Path) -> AuditContext:
        """The context of the small frame; drift rules use the stated reference, whatever their definition."""
        stated = self.stated["frame"]
        for rule in rules:
            if rule.measure == "psi":
                References(folder).pin(self.table, rule, _reference(rule, stated["references"][rule_of(rule.name)]))

        def earlier(table: str, rule: str, versions: int) -> Sequence[float]:
            values: Sequence[float] = stated["earlier"][rule_of(rule)]
            return values[:versions]

        def other(table: str) -> DataFrame:
            others = Cases(table)
            types = {column.name: column.type for column in others.contract.columns}
            return frame_of(spark, [{**others.good, **stated["others"][table]}], types)

        as_of = datetime.fromisoformat(str(stated["as_of"])) if "as_of" in stated else None
        return AuditContext(run_id="r", as_of=as_of, earlier=earlier, other=other, references=References(folder))

    def _broken(self) -> Iterator[Case]:
        for item in self.stated.get("breaks", []):
            yield Case(row={**self.good, **item["row"]}, breaks=frozenset(item["rules"]))

    def _nulls(self) -> Iterator[Case]:
        for name in self.contract.column_names:
            present = set() if name in self.stated.get("may_be_null", []) else {f"{name}_is_present"}
            yield Case(row={**self.good, name: None}, breaks=frozenset(present | set(self._broken_by_null(name))))

    def _broken_by_null(self, column: str) -> Sequence[str]:
        named: Sequence[str] = self.stated.get("nulls", {}).get(column, [])
        return named

    def _words(self) -> Iterator[Case]:
        for column, words in self.stated.get("words", {}).items():
            known: Mapping[Any, Values] = words if isinstance(words, dict) else {word: {} for word in words}
            for word, change in known.items():
                yield Case(row={**self.good, **change, column: word})
            numbers = all(isinstance(word, int) for word in known)
            strange = (
                [min(known) - 1, max(known) + 1]
                if numbers
                else ["", *(other for word in known for other in (word.upper(), f"{word}s", word[:-1]))]
            )
            for word in strange:
                yield Case(row={**self.good, column: word}, breaks=frozenset({f"{column}_is_known"}))

    def _still_broken(self) -> Iterator[Case]:
        """The first broken row of each set of rules, with NULL in a column that their conditions do not use."""
        first = {case.breaks: case for case in reversed(tuple(self._broken()))}
        nullable = self.stated.get("may_be_null", [])
        for case in first.values():
            conditions = " ".join(rule.condition for rule in self.contract.row_rules if rule.name in case.breaks)
            named = set(re.findall(r"\w+", conditions))
            for column in self.contract.column_names:
                if column not in named and not self._broken_by_null(column) and column not in nullable:
                    yield Case(row={**case.row, column: None}, breaks=case.breaks | {f"{column}_is_present"})


@dataclass(frozen=True)
class ViewCases:
    """The fixtures of the dataset rules: rows of the joined view, alone and in groups."""

    members: Cases

    @cached_property
    def types(self) -> dict[str, str]:
        columns = {column.name: column.type for column in self.members.contract.columns}
        return {**columns, **self.members.stated["view"]["types"]}

    @cached_property
    def good(self) -> Values:
        return {**self.members.good, **self.members.stated["view"]["good"]}

    def alone(self) -> list[Case]:
        """Rows that are evaluated one by one."""
        view = self.members.stated["view"]
        return [
            Case(row=self.good),
            *(Case(row={**self.good, **change}) for change in view["holds"]),
            *(Case(row={**self.good, **item["row"]}, breaks=frozenset(item["rules"])) for item in view["breaks"]),
        ]

    def groups(self) -> list[tuple[list[Values], frozenset[str]]]:
        """Groups of rows evaluated together, each with its own sample ids and unit, and the rules they break."""
        view = self.members.stated["view"]
        satisfied = [{"rules": [], "rows": rows} for rows in view["groups_hold"]]
        return [
            ([self._in_group(i, change) for change in item["rows"]], frozenset(item["rules"]))
            for i, item in enumerate([*satisfied, *view["groups_break"]])
        ]

    def _in_group(self, group: int, change: Values) -> Values:
        row = {**self.good, **change}
        return {**row, "sample_id": f"{row['sample_id']}-{group}", "unit_id": f"{row['unit_id']}-{group}"}


def frame_of(spark: SparkSession, rows: Sequence[Values], types: Mapping[str, str]) -> DataFrame:
    """The rows as a frame of constants, in the given order, which Spark reads without a job."""
    cells = [", ".join(f"CAST({_sql(row[name])} AS {kind})" for name, kind in types.items()) for row in rows]
    names = ", ".join(f"`{name}`" for name in types)
    return spark.sql(f"SELECT * FROM VALUES {', '.join(f'({row})' for row in cells)} AS t({names})")  # noqa: S608


def _reference(rule: TableRule, stated: Values) -> Reference:
    """Bins and counts from the fixture, of a value or by key of a map."""
    keyed = stated.get("keys", {WHOLE: stated})
    bins = {
        key: Bins(edges=tuple(one.get("edges", ())), words=tuple(one.get("words", ()))) for key, one in keyed.items()
    }
    counts = {key: tuple(one["counts"]) for key, one in keyed.items()}
    of, among = rule.arguments["of"], rule.arguments.get("among", "true")
    return Reference(of=of, among=among, run_id="r", bins=bins, counts=counts)


def rule_of(name: str) -> str:
    """The name of the shipped rule of a mutant named ``RULE@NUMBER``."""
    return name.partition("@")[0]


def _sql(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str) and value.startswith("="):
        return value[1:]
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
