"""What the rules of a contract measure on one staged table: one pass for all of them, and a job for each key.

Row rules, shares, drift, freshness and counts are aggregates of one pass over the rows. Uniqueness and references to
other tables need a shuffle of the keys and are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import TableContract
from schemas.rules import TableRule
from zigong.quality.bins import WHOLE
from zigong.quality.reference import Reference, References
from zigong.quality.rows import REASONS, counts_by_rule

ALL, REFUSED = "_all", "_refused"


Earlier = Callable[[str, str, int], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class AuditContext:
    """What a table is judged beside.

    Attributes:
        run_id: run whose rows are judged.
        as_of: moment that ages are counted to; None: ages are not judged.
        earlier: values of a rule in the last verdicts of other runs that published: table, rule, how many -> newest
            first; None: the rows are a part of their table, which nothing is compared with, now or later.
        other: opens another table at the version the run reads; None: references are not judged.
        references: the pinned references; None: drift is not judged.
    """

    run_id: str
    as_of: datetime | None = None
    earlier: Earlier | None = None
    other: Callable[[str], DataFrame] | None = None
    references: References | None = None

    def reference(self, table: str, rule: TableRule) -> Reference | None:
        """The pinned reference of a drift rule."""
        return None if self.references is None else self.references.of(table, rule)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one rule.

    Attributes:
        value: what later verdicts compare themselves to; None: nothing could be measured.
        observed: what the bounds are held against: the value, or its relation to earlier ones.
        note: why there is nothing to judge.
        excused: whether the rule may go without a judgement: there is no row, or nothing to compare with yet. A rule
            that is neither judged nor excused is broken.
    """

    value: float | None
    observed: float | None
    note: str = ""
    excused: bool = False


@dataclass(frozen=True, kw_only=True)
class TableMeasures:
    """Everything measured of a table.

    Attributes:
        kept: rows without reasons.
        refused: rows that row rules take out.
        of_rules: by rule name.
    """

    kept: int
    refused: int
    of_rules: Mapping[str, Measured] = field(default_factory=dict)


def measured(
    rows: DataFrame, contract: TableContract, context: AuditContext, *, rejected: int = 0, dropped: int = 0
) -> TableMeasures:
    """Measures every rule of a contract.

    Args:
        rows: conformed rows (with ``_reasons``), cheap to read more than once.
        rejected: rows that the transform refused before, part of rows in.
        dropped: rows that the transform left out, part of rows in.
    """
    kept = rows.where(F.size(REASONS) == 0)
    references = {
        rule.name: found
        for rule in contract.table_rules
        if rule.measure == "psi" and (found := context.reference(contract.name, rule)) is not None
    }
    asked = [rule for rule in contract.table_rules if rule.measure in _IN_PASS]
    (passed,) = rows.agg(
        F.count("*").alias(ALL),
        F.count_if(F.size(REASONS) > 0).alias(REFUSED),
        *counts_by_rule(contract),
        *(_aggregate(rule, references.get(rule.name)).alias(rule.name) for rule in asked),
    ).collect()
    found = passed.asDict()
    refused = found[REFUSED]
    rows_in, stay = found[ALL] + rejected + dropped, found[ALL] - refused
    of_rules = {rule.name: _plain(found[rule.name]) for rule in contract.row_rules}
    for rule in contract.table_rules:
        match rule.measure:
            case "rows":
                of_rules[rule.name] = _plain(stay)
            case "refused_share":
                of_rules[rule.name] = _plain((refused + rejected) / rows_in if rows_in else 0.0)
            case "duplicate_keys":
                of_rules[rule.name] = _plain(duplicate_keys(kept, contract.key))
            case "unmatched":
                of_rules[rule.name] = _unmatched(kept, rule, context)
            case "rows_to_last" | "share_to_last":
                value = stay if rule.measure == "rows_to_last" else found[rule.name]
                of_rules[rule.name] = _to_last(value, rule, contract.name, context, empty=not stay)
            case "share":
                of_rules[rule.name] = _share(found[rule.name], empty=not stay)
            case "age_days":
                of_rules[rule.name] = _age(found[rule.name], context, empty=not stay)
            case "psi":
                of_rules[rule.name] = _drift(found.get(rule.name), references.get(rule.name), empty=not stay)
    return TableMeasures(kept=stay, refused=refused, of_rules=of_rules)


def duplicate_keys(rows: DataFrame, key: Sequence[str]) -> int:
    """Rows beyond the first of each key."""
    doubled = rows.groupBy(*key).count().where("count > 1")
    (row,) = doubled.agg(F.coalesce(F.sum(F.col("count") - 1), F.lit(0)).alias("rows")).collect()
    return int(row["rows"])


_IN_PASS = ("share", "share_to_last", "age_days", "psi")


def _aggregate(rule: TableRule, reference: Reference | None) -> Column:
    stays = F.size(REASONS) == 0
    if rule.measure == "age_days":
        return F.max(F.when(stays, F.unix_micros(F.expr(rule.arguments["of"]).cast("timestamp"))))
    among = stays & F.expr(rule.arguments.get("among", "true"))
    if rule.measure == "psi":
        return reference.count(stays) if reference else F.array(F.count_if(F.lit(False)))
    whole = F.count_if(among)
    return F.when(whole > 0, F.count_if(among & F.expr(rule.arguments["of"])) / whole)


def _plain(value: float | None) -> Measured:
    return Measured(value=value, observed=value)


def _not_judged(why: str, *, excused: bool, value: float | None = None) -> Measured:
    return Measured(value=value, observed=None, note=why, excused=excused)


def _share(value: float | None, *, empty: bool) -> Measured:
    return _not_judged("no row to take a share of", excused=empty) if value is None else _plain(value)


def _unmatched(kept: DataFrame, rule: TableRule, context: AuditContext) -> Measured:
    if context.other is None:
        return _not_judged("no other table at hand", excused=True)
    column, (table, _, name) = rule.arguments["column"], rule.arguments["to"].partition(".")
    known = context.other(table).select(F.col(name).alias(column))
    return _plain(kept.where(F.col(column).isNotNull()).join(known, column, "left_anti").count())


def _to_last(value: float | None, rule: TableRule, table: str, context: AuditContext, *, empty: bool) -> Measured:
    if value is None:
        return _share(value, empty=empty)
    if context.earlier is None:
        return _not_judged("only what was missing or touched was built: no earlier verdict is like it", excused=True)
    earlier = context.earlier(table, rule.name, int(rule.arguments["versions"]))
    if not earlier:
        return _not_judged("no earlier verdict to compare with", excused=True, value=value)
    if rule.measure == "share_to_last":
        return Measured(value=value, observed=value - fmean(earlier))
    typical = median(earlier)
    if not typical:
        return _not_judged("the earlier verdicts had no rows", excused=True, value=value)
    return Measured(value=value, observed=value / typical)


def _age(newest_micros: int | None, context: AuditContext, *, empty: bool) -> Measured:
    if context.as_of is None:
        return _not_judged("no as_of at hand", excused=True)
    if newest_micros is None:
        return _not_judged("no time to count from", excused=empty)
    return _plain((context.as_of.timestamp() - newest_micros / 1e6) / 86_400)


def _drift(counts: Sequence[int] | None, reference: Reference | None, *, empty: bool) -> Measured:
    if reference is None:
        return _not_judged("no reference is pinned", excused=True)
    if not counts or not sum(counts):
        return _not_judged("no row to compare", excused=empty)
    key, index = reference.drift(counts)
    return Measured(value=index, observed=index, note=f"most of all {key}" if key != WHOLE else "")
