"""The verdict on a table: for each rule the observed value, the bounds and whether it passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from schemas.contracts import Rule
from schemas.rules import TableRule
from zigong.quality.measures import Measurement


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """One rule and its result.

    Attributes:
        severity: effect of a broken rule: quarantine, warn or block.
        fingerprint: digest of the rule's definition.
        value: value that later verdicts are compared with.
        observed: number compared with the bounds; None if there is none, with the reason in ``note``.
        low: smallest admissible observation, None: no bound.
        high: largest admissible observation, None: no bound.
        passed: whether the rule passed or is excused.
        excused: whether it may have no observation.
        answered: False if GX returned no result for it.
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
        """Whether it blocks publication: it is broken, or has no result from GX, whatever its severity."""
        return not self.passed and (self.severity != "warn" or not self.answered)

    @property
    def warns(self) -> bool:
        """Whether it is reported as a warning: it only warns, or it would block but could not be evaluated yet."""
        unseen = self.observed is None and self.severity == "block"
        return not self.blocks and (not self.passed or unseen)

    def sentence(self) -> str:
        """Expected and observed values, and the note on a rule that was not evaluated or is broken."""
        why = f" ({self.note})" if self.note and (self.observed is None or not self.passed) else ""
        return f"{self.rule}: expected {self.expected()}, observed {self.observation_text()}{why}"

    def expected(self) -> str:
        """The bounds as text."""
        return "no broken row is kept" if self.severity == "quarantine" else _range(self.low, self.high)

    def observation_text(self) -> str:
        """The observation as text."""
        return _number(self.observed)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The results of all rules of one table.

    Attributes:
        kept: number of rows kept.
        refused: number of rows that row rules removed.
        results: one per rule, in the order of the contract.
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
        """The results as dictionaries for tables and files."""
        return [asdict(item) for item in self.results]


def pending_results(rules: Sequence[Rule], found: Mapping[str, Measurement]) -> tuple[RuleResult, ...]:
    """The rules with their bounds and measurements, before the suite evaluates them.

    A row rule that quarantines has no upper bound: its rows are already removed, and ``refused_share`` limits them.
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
