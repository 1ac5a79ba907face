"""The rules of user_sequences by several tools; a file is a program, `FILE [WAY] INPUT OUTPUT EVENTS THREADS`.

INPUT contains the planted sequences as Parquet, in the columns of the contract. Each prints one line of JSON: wall and
CPU seconds from the first read to the last verdict, start of the engine not counted, the same of the fastest of
`WARM_TIMES` more times, with nothing kept but Spark's compiled code, and `found.RULE` for each rule that every tool
evaluates: rows that break a row rule, rows beyond the first of their key, and for a rule of the table 1 if it is
broken. Drift and counts of earlier runs are not evaluated: they need a reference, and the first run has none.
"""

from __future__ import annotations

from schemas.contracts import TableContract, table_contract
from schemas.rules import TableRule

FOUND = "found."
PLANTED_ROWS_OF_A_KEY = 2
WARM_TIMES = 3  # seconds each: Java compiles over several
_WITHOUT_REFERENCE = ("duplicate_keys", "rows", "refused_share")


def contract() -> TableContract:
    """The contract whose rules are evaluated."""
    return table_contract("user_sequences")


def audited_table_rules() -> tuple[TableRule, ...]:
    """The rules of the table that need no other data."""
    return tuple(rule for rule in contract().table_rules if rule.measure in _WITHOUT_REFERENCE)


def any_row_rule_broken() -> str:
    """Spark SQL: whether a row breaks a row rule; null passes."""
    return " OR ".join(f"NOT coalesce({rule.condition}, true)" for rule in contract().row_rules)


def violation_figures(found: dict[str, int]) -> dict[str, float]:
    """The violations under the names that the driver compares."""
    return {f"{FOUND}{rule}": float(number) for rule, number in found.items()}
