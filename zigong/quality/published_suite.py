"""The rules of a contract as a GX suite that can be evaluated on the published table without ZiGong.

It holds the rules that concern only the table itself. Rules that compare it with other data (input rows, earlier
verdicts, other tables, the run's date, a pinned reference) are listed in the suite's ``meta``. The conditions are Spark
SQL; a result shows how many rows break a rule and none of their values.
"""

from __future__ import annotations

import great_expectations as gx
import great_expectations.expectations as gxe

from schemas.contracts import TableContract
from schemas.rules import RowRule, TableRule
from zigong.quality.suite import GX_SEVERITY

OF_THE_TABLE_ALONE = ("rows", "duplicate_keys", "share")


def published_suite(contract: TableContract) -> gx.ExpectationSuite:
    """The suite ``TABLE_published``; each expectation names its rule in ``meta``."""
    included = [
        rule for rule in contract.table_rules if rule.measure in OF_THE_TABLE_ALONE and "mature" not in rule.arguments
    ]
    elsewhere = {rule.name: rule.measure for rule in contract.table_rules if rule not in included}
    return gx.ExpectationSuite(
        name=f"{contract.name}_published",
        expectations=[*map(_of_rows, contract.row_rules), *(_of_table(rule, contract.key) for rule in included)],
        meta={"rules_version": contract.rules_version, "evaluated_by_zigong_only": elsewhere},
    )


def _of_rows(rule: RowRule) -> gxe.Expectation:
    column = rule.name.removesuffix("_is_present")
    if rule.condition == f"`{column}` IS NOT NULL":
        return gxe.ExpectColumnValuesToNotBeNull(column=column, **_explained(rule))
    return _no_rows(f"SELECT 1 AS broken FROM {{batch}} WHERE NOT ({_escaped(rule.condition)})", rule)  # noqa: S608


def _of_table(rule: TableRule, key: tuple[str, ...]) -> gxe.Expectation:
    match rule.measure:
        case "rows":
            return gxe.ExpectTableRowCountToBeBetween(min_value=rule.low, max_value=rule.high, **_explained(rule))
        case "duplicate_keys":
            columns = ", ".join(f"`{name}`" for name in key)
            query = f"SELECT 1 AS broken FROM {{batch}} GROUP BY {columns} HAVING count(*) > 1"  # noqa: S608
            return _no_rows(query, rule)
        case _:
            return _no_rows(_share_outside(rule), rule)


def _share_outside(rule: TableRule) -> str:
    """SQL that returns one row if the share is out of bounds, or if the table has rows but the share has none."""
    of, among = (_escaped(str(rule.arguments.get(name, "true"))) for name in ("of", "among"))
    share = f"try_divide(count_if(({among}) AND ({of})), count_if({among}))"
    bounds = [f"share < {rule.low}"] * (rule.low is not None) + [f"share > {rule.high}"] * (rule.high is not None)
    outside = " OR ".join([*bounds, "(share IS NULL AND all_rows > 0)"])
    return f"SELECT share FROM (SELECT {share} AS share, count(*) AS all_rows FROM {{batch}}) WHERE {outside}"  # noqa: S608


def _no_rows(query: str, rule: RowRule | TableRule) -> gxe.Expectation:
    return gxe.UnexpectedRowsExpectation(unexpected_rows_query=query, **_explained(rule))


def _explained(rule: RowRule | TableRule) -> dict[str, object]:
    return {
        "severity": GX_SEVERITY[rule.severity],
        "description": rule.description or None,
        "meta": {"rule": rule.name, "fingerprint": rule.fingerprint, "severity": rule.severity},
    }


def _escaped(sql: str) -> str:
    """SQL for a GX query, in which braces mark the batch."""
    return sql.replace("{", "{{").replace("}", "}}")
