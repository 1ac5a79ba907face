"""The verdict on a table: each rule with what was observed, what was allowed and whether it held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from schemas.rules import DatasetRule, RowRule, TableRule
from zigong.quality.measures import Measured


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """One rule and how it ended.

    Attributes:
        severity: what a broken rule means: quarantine, warn or block.
        fingerprint: of the rule's wording.
        value: what later verdicts compare themselves to.
        observed: what was held against the bounds; None: nothing could be, and ``note`` says why.
        low: smallest admissible observation, None: no bound.
        high: largest admissible observation, None: no bound.
        passed: whether it held, or is excused.
        excused: whether it may go without an observation.
        answered: whether GX judged it, where it was asked.
    """

    rule: str
    severity: str
    fingerprint: str
    value: float | None
    observed: float | None
    low: float | None
    high: float | None
    passed: bool
    note: str
    description: str
    excused: bool = False
    answered: bool = True

    @property
    def blocks(self) -> bool:
        """Whether it keeps the table back: broken, or not answered by GX, which no severity allows."""
        return not self.passed and (self.severity != "warn" or not self.answered)

    @property
    def warns(self) -> bool:
        """Whether it has to be reported: it only warns, or would block and could not be judged yet."""
        unseen = self.observed is None and self.severity == "block"
        return not self.blocks and (not self.passed or unseen)

    def sentence(self) -> str:
        """Expected and observed, and why a rule was not judged."""
        why = f" ({self.note})" if self.note and (self.observed is None or not self.answered) else ""
        return f"{self.rule}: expected {self.expected()}, observed {self.seen()}{why}"

    def expected(self) -> str:
        """The bounds in words."""
        return "no row stays" if self.severity == "quarantine" else _range(self.low, self.high)

    def seen(self) -> str:
        """The observation in words."""
        return _number(self.observed)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the rules said of one table.

    Attributes:
        kept: rows that stay.
        refused: rows that row rules took out.
        results: one for each rule, in the order of the contract.
    """

    kept: int
    refused: int
    results: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        """Whether the table may be published."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """Rules that block, one sentence each."""
        return tuple(item.sentence() for item in self.results if item.blocks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Rules that warn, one sentence each."""
        return tuple(item.sentence() for item in self.results if item.warns)

    def rows(self) -> list[dict[str, Any]]:
        """The results as plain rows for tables and files."""
        return [asdict(item) for item in self.results]


Rule = RowRule | TableRule | DatasetRule


def pending_results(rules: Sequence[Rule], found: Mapping[str, Measured]) -> tuple[RuleResult, ...]:
    """The rules with their bounds and measurements, before the suite has judged them.

    A row rule that quarantines has no upper bound: its rows are out already, and ``refused_share`` limits them.
    """
    return tuple(
        RuleResult(
            rule=rule.name,
            severity=rule.severity,
            fingerprint=rule.fingerprint,
            value=found[rule.name].value,
            observed=found[rule.name].observed,
            low=rule.low if isinstance(rule, TableRule) else 0,
            high=rule.high if isinstance(rule, TableRule) else None if rule.severity == "quarantine" else 0,
            passed=True,
            note=found[rule.name].note,
            excused=found[rule.name].excused,
            description=rule.description,
        )
        for rule in rules
    )


def _range(low: float | None, high: float | None) -> str:
    if low == high:
        return _number(low)
    return (
        f"at most {_number(high)}"
        if low is None
        else (f"at least {_number(low)}" if high is None else f"{_number(low)} to {_number(high)}")
    )


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
