"""What a check of a contract finds, in words that fit a table."""

from __future__ import annotations

from dataclasses import dataclass

# An error keeps a contract from doing what it says; a warning is read by a person.
ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One thing that is wrong with a contract.

    Attributes:
        where: part of the contract, such as ``column user_id`` or ``rule has_rows``.
        found: what stands there.
        expected: what should stand there.
        severity: ``error`` or ``warning``.
    """

    where: str
    found: str
    expected: str
    severity: str = ERROR
