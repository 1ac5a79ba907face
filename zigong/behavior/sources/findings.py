"""The result of checking a source: findings, and a summary of the events and profiles it yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from zigong.behavior.sources.causes import HINTS
from zigong.behavior.sources.raw import MAX_CELL

_ACTIONS = {
    "missing": "fill the cell at the source, or drop `required` from the column",
    "bad_cast": "correct the type of the column; a text that means an empty cell belongs into null_values",
    "more_digits": "round in the SQL if that is meant, such as CAST(round(x, 2) AS DECIMAL(18,2)); "
    "thousandths (KWD, BHD, JOD) have no place in the table",
    "not_finite": "correct the source, or list the text in null_values",
    "unknown_value": "add the value to `values` of the column, or correct the source",
    "unexpected_offset": "a time that states its zone is UTC once it is read: leave out to_utc_timestamp where every "
    "cell has an offset; where only some have, have them all delivered with one",
    "below_minimum": "correct the source, or the column's minimum",
    "broken_text": "set `encoding` of the file, such as windows-1252, or deliver it in UTF-8 without NUL characters: "
    "the rows lost are those of names with accents, which selects clients",
    "too_long": f"no text has more than {MAX_CELL:,} characters: look for a quote that is not closed",
    "scientific_notation": "a spreadsheet or a float rounded the id: have it delivered as text",
    "invisible_letters": "remove zero-width, no-break and control characters from the id at the source",
    "malformed_row": "correct the line: too many or too few fields, an open quote, or no JSON object",
    "repeated_header": "deliver the line with the names of the columns once a file; nothing else is lost",
    "event_type_is_a_word": "let the SQL yield lower-case words such as loan_paid: a-z, 0-9, _; at most 64 characters",
    "amount_has_currency": "let the SQL yield an ISO 4217 code with every amount",
    "op_is_known": "let the SQL yield 'upsert', or 'retract' for an event that is withdrawn",
    "days_past_due_not_negative": "let the SQL yield null or a number from 0",
    "currency_is_a_code": "let the SQL yield three capital letters, such as upper(trim(x)), or 'EUR' for all",
    "before_1970": "look for a wrong unit, a wrong anchor date or a text that means empty",
    "far_future": "look for a two-digit year, a wrong unit, a wrong anchor date or a text that means 'never'",
}
_PROBLEMS = {
    "unexpected_offset": "cells carry an offset or a zone, and to_utc_timestamp would shift them again",
    "more_digits": "numbers with more digits than the column of the table keeps; amounts are decimal(18,2)",
}


@dataclass(frozen=True, kw_only=True)
class SourceFinding:
    """One problem, or one piece of information.

    Attributes:
        section: file or part of the mapping, such as ``files: loans`` or ``events``.
        column: the column concerned, if any.
        problem: what was found.
        rows: number of rows concerned, which a run would send to quarantine unless ``lossy``; None: not about rows.
        examples: up to three masked examples.
        action: what to do.
        blocking: False if the finding may be intended; a run does not stop and quarantines nothing for it.
        lossy: whether a run publishes something else than what was delivered, without quarantine: rows dropped, texts
            turned into null, times moved.
    """

    section: str
    problem: str
    action: str
    column: str | None = None
    rows: int | None = None
    examples: tuple[str, ...] = ()
    blocking: bool = True
    lossy: bool = False

    @property
    def sentence(self) -> str:
        """The finding as a warning of a run."""
        where = ", ".join(part for part in (self.section, self.column) if part)
        rows = "" if self.rows is None else f" ({self.rows:,} rows)"
        return f"{where}: {self.problem}{rows}; {self.action}"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts and time ranges of what a source yields; all times are UTC."""

    file_rows: Mapping[str, int]
    read_files: Mapping[str, int]  # rows by file, for sections that name a folder or a pattern
    events: int
    profiles: int
    users: int
    event_types: Mapping[str, int]
    first_event_at: datetime | None
    last_event_at: datetime | None
    first_known_at: datetime | None
    last_known_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class SourceCheck:
    """All findings on a source; no summary if files, columns or SQL are too broken to count events."""

    findings: tuple[SourceFinding, ...]
    summary: Summary | None

    @property
    def faults(self) -> int:
        """Number of findings that have to be fixed before a run."""
        return sum(finding.blocking and finding.rows is None for finding in self.findings)

    @property
    def row_findings(self) -> int:
        """Number of findings whose rows a run would send to quarantine while it continues with the others."""
        return sum(finding.blocking and finding.rows is not None and not finding.lossy for finding in self.findings)

    @property
    def losses(self) -> int:
        """Number of findings whose rows a run would drop or change, of which so many cannot be intended."""
        return sum(finding.blocking and finding.lossy for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing has to be corrected."""
        return not any(finding.blocking for finding in self.findings)

    @property
    def complete(self) -> bool:
        """Whether ingest would publish every row and every value."""
        return self.ok and not any(finding.lossy for finding in self.findings)


def rule_finding(
    section: str, rule: str, rows: int, examples: tuple[str, ...], causes: Mapping[str, int] | None = None
) -> SourceFinding:
    """The finding for rows that break a rule of the source mapping or of a table contract.

    Args:
        section: file or part of the mapping.
        rule: name of the rule, followed by a colon and its column if it has one, and by ``:published`` if a run
            publishes the rows nevertheless.
        rows: number of rows that break it.
        examples: up to three masked examples.
        causes: likely causes, keys of ``causes.HINTS``, with their numbers of rows.
    """
    kind, column, published = (*rule.split(":"), "", "")[:3]
    if kind.endswith("_is_present"):
        column = {"user_id": "user_key", "event_id": "event_key"}.get(name := kind.removesuffix("_is_present"), name)
        action = f"let the SQL yield {column} in every row: look for a join without a match or a bad date"
        return SourceFinding(section=section, column=column, problem="null", rows=rows, action=action)
    action = _ACTIONS.get(kind, f"see rule {kind} of the table's contract in schemas/tables")
    return SourceFinding(
        section=section,
        column=column or None,
        problem=_PROBLEMS.get(kind, kind.replace("_", " ")),
        rows=rows,
        examples=examples,
        action=f"none if it is meant; otherwise {action}" if published else _by_cause(causes or {}) or action,
        blocking=not published,
    )


def _by_cause(causes: Mapping[str, int]) -> str:
    """What to do about the likely causes, the most frequent first."""
    likely = sorted(causes, key=lambda cause: (-causes[cause], cause))
    return "; ".join(f"{cause} ({causes[cause]:,} rows): {HINTS[cause]}" for cause in likely)
