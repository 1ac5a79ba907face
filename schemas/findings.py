"""Findings of a contract check, short enough for a table."""

from __future__ import annotations

from dataclasses import dataclass

# An error makes a contract unusable; a warning is advice.
ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One problem of a contract.

    Attributes:
        where: part of the contract, such as ``column user_id`` or ``rule has_rows``.
        found: the present value.
        expected: the expected value.
        severity: ``error`` or ``warning``.
    """

    where: str
    found: str
    expected: str
    severity: str = ERROR
