"""Measures the rules of a contract on one staged table: one pass for most of them, plus one job per key.

Row rules, shares, drift, freshness and counts are aggregates of one pass over the rows. Uniqueness and references to
other tables need a shuffle of the keys and are counted separately.
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
    """The context in which a table is evaluated.

    Attributes:
        run_id: run whose rows are evaluated.
        as_of: moment at which ages are measured; None: ages are not evaluated.
        earlier: (table, rule, count) -> values of the rule in the last ``count`` verdicts of other published runs,
            newest first; None: the rows are only part of their table, so they are never compared with other runs.
        other: opens another table at the version the run reads; None: references to other tables are not evaluated.
        references: the pinned references; None: drift is not evaluated.
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
class Measurement:
    """The measurement of one rule.

    Attributes:
        value: value that later verdicts are compared with; None: nothing could be measured.
        observed: number compared with the bounds: the value, or its ratio to earlier values.
        note: why there is nothing to evaluate.
        excused: whether the rule may remain unevaluated, because there is no row or nothing to compare with yet. A rule
            that is neither evaluated nor excused is broken.
    """

    value: float | None
    observed: float | None
    note: str = ""
    excused: bool = False


@dataclass(frozen=True, kw_only=True)
class TableMeasures:
    """All measurements of a table.

    Attributes:
        kept: number of rows without reasons.
        refused: number of rows that row rules remove.
        of_rules: measurements by rule name.
    """

    kept: int
    refused: int
    of_rules: Mapping[str, Measurement] = field(default_factory=dict)


def measured(
    rows: DataFrame, contract: TableContract, context: AuditContext, *, rejected: int = 0, dropped: int = 0
) -> TableMeasures:
    """Measures every rule of a contract.

    Args:
        rows: conformed rows (with ``_reasons``), cheap to read more than once.
        rejected: input rows that the transform rejected.
        dropped: input rows that the transform omitted.
    """
    kept = rows.where(F.size(REASONS) == 0)
    references = {
        rule.name: found
        for rule in contract.table_rules
        if rule.measure == "psi" and (found := context.reference(contract.name, rule)) is not None
    }
    in_pass = [rule for rule in contract.table_rules if rule.measure in _IN_PASS]
    (passed,) = rows.agg(
        F.count("*").alias(ALL),
        F.count_if(F.size(REASONS) > 0).alias(REFUSED),
        *counts_by_rule(contract),
        *(_aggregate(rule, references.get(rule.name), context).alias(rule.name) for rule in in_pass),
    ).collect()
    found = passed.asDict()
    refused = found[REFUSED]
    rows_in, kept_rows = found[ALL] + rejected + dropped, found[ALL] - refused
    of_rules = {rule.name: _plain(found[rule.name]) for rule in contract.row_rules}
    for rule in contract.table_rules:
        match rule.measure:
            case "rows":
                of_rules[rule.name] = _plain(kept_rows)
            case "refused_share":
                of_rules[rule.name] = _plain((refused + rejected) / rows_in if rows_in else 0.0)
            case "duplicate_keys":
                of_rules[rule.name] = _plain(duplicate_keys(kept, contract.key))
            case "unmatched":
                of_rules[rule.name] = _unmatched(kept, rule, context)
            case "rows_to_last" | "share_to_last":
                value = kept_rows if rule.measure == "rows_to_last" else found[rule.name]
                of_rules[rule.name] = _to_last(value, rule, contract.name, context, empty=not kept_rows)
            case "share":
                of_rules[rule.name] = _share(found[rule.name], empty=not kept_rows)
            case "age_days":
                of_rules[rule.name] = _age(found[rule.name], context, empty=not kept_rows)
            case "psi":
                of_rules[rule.name] = _drift(found.get(rule.name), references.get(rule.name), empty=not kept_rows)
    return TableMeasures(kept=kept_rows, refused=refused, of_rules=of_rules)


def duplicate_keys(rows: DataFrame, key: Sequence[str]) -> int:
    """Number of rows beyond the first of each key."""
    doubled = rows.groupBy(*key).count().where("count > 1")
    (row,) = doubled.agg(F.coalesce(F.sum(F.col("count") - 1), F.lit(0)).alias("rows")).collect()
    return int(row["rows"])


_IN_PASS = ("share", "share_to_last", "age_days", "psi")


def _aggregate(rule: TableRule, reference: Reference | None, context: AuditContext) -> Column:
    stays = F.size(REASONS) == 0
    if rule.measure == "age_days":
        instant = F.unix_micros(F.expr(rule.arguments["of"]).cast("timestamp"))
        # One date typed for the next century must not make a silent source look fresh.
        counted = stays if context.as_of is None else stays & (instant <= round(context.as_of.timestamp() * 1_000_000))
        return F.max(F.when(counted, instant))
    among = stays & F.expr(rule.arguments.get("among", "true"))
    if rule.measure == "psi":
        return reference.count(stays) if reference else F.array(F.count_if(F.lit(False)))
    if context.as_of is not None and "mature" in rule.arguments:
        among &= F.unix_micros(F.col(rule.arguments["mature"])) <= round(context.as_of.timestamp() * 1e6)
    total = F.count_if(among)
    return F.when(total > 0, F.count_if(among & F.expr(rule.arguments["of"])) / total)


def _plain(value: float | None) -> Measurement:
    return Measurement(value=value, observed=value)


def _not_evaluated(why: str, *, excused: bool, value: float | None = None) -> Measurement:
    return Measurement(value=value, observed=None, note=why, excused=excused)


def _share(value: float | None, *, empty: bool) -> Measurement:
    return _not_evaluated("no row to take a share of", excused=empty) if value is None else _plain(value)


def _unmatched(kept: DataFrame, rule: TableRule, context: AuditContext) -> Measurement:
    if context.other is None:
        return _not_evaluated("no other table at hand", excused=True)
    column, (table, _, name) = rule.arguments["column"], rule.arguments["to"].partition(".")
    known = context.other(table).select(F.col(name).alias(column))
    return _plain(kept.where(F.col(column).isNotNull()).join(known, column, "left_anti").count())


def _to_last(value: float | None, rule: TableRule, table: str, context: AuditContext, *, empty: bool) -> Measurement:
    if value is None:
        return _share(value, empty=empty)
    if context.earlier is None:
        return _not_evaluated("only what was missing or touched was built: no earlier verdict is like it", excused=True)
    earlier = context.earlier(table, rule.name, int(rule.arguments["versions"]))
    if not earlier:
        return _not_evaluated("no earlier verdict to compare with", excused=True, value=value)
    if rule.measure == "share_to_last":
        return Measurement(value=value, observed=value - fmean(earlier))
    typical = median(earlier)
    if not typical:
        return _not_evaluated("the earlier verdicts had no rows", excused=True, value=value)
    return Measurement(value=value, observed=value / typical)


def _age(newest_micros: int | None, context: AuditContext, *, empty: bool) -> Measurement:
    if context.as_of is None:
        return _not_evaluated("no as_of at hand", excused=True)
    if newest_micros is None:
        return _not_evaluated(f"no time up to {context.as_of:%Y-%m-%d} to count from", excused=empty)
    return _plain((context.as_of.timestamp() - newest_micros / 1e6) / 86_400)


def _drift(counts: Sequence[int] | None, reference: Reference | None, *, empty: bool) -> Measurement:
    if reference is None:
        return _not_evaluated("no reference is pinned", excused=True)
    if not counts or not sum(counts):
        return _not_evaluated("no row to compare", excused=empty)
    key, index = reference.drift(counts)
    return Measurement(value=index, observed=index, note=f"most of all {key}" if key != WHOLE else "")
