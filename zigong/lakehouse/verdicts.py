"""The table of verdicts: written before a table is promoted or blocked, read by rules that compare with past runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow.dataset as ds

from zigong.lakehouse.commits import replace_rows
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, published_version

PASSED, BLOCKED = "passed", "blocked"


class TableVerdict(Protocol):
    """The result of the rules of a table."""

    @property
    def passed(self) -> bool:
        """Whether the staged rows may be published."""

    @property
    def kept(self) -> int:
        """Rows that remain."""

    @property
    def refused(self) -> int:
        """Rows that row rules rejected."""

    @property
    def failures(self) -> tuple[str, ...]:
        """Broken rules that block, one sentence each."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Broken rules that warn, one sentence each."""

    def rows(self) -> list[dict[str, Any]]:
        """The results, rule by rule."""


def record_verdict(
    paths: LakehousePaths,
    verdict: TableVerdict,
    *,
    run_id: str,
    table: str,
    counts: Mapping[str, Any],
    rules_version: str,
) -> None:
    """Replaces a run's verdict on a table.

    Args:
        counts: ``rows_in``, ``published``, ``quarantined``, ``dropped`` by reason and ``outside``.
    """
    row = {
        "run_id": run_id,
        "table_name": table,
        "verdict": PASSED if verdict.passed else BLOCKED,
        "rows_in": counts["rows_in"],
        "rows_published": counts["published"],
        "rows_quarantined": counts["quarantined"],
        "rows_dropped": sum(counts["dropped"].values()),
        "rows_outside": counts["outside"],
        "failures": list(verdict.failures),
        "warnings": list(verdict.warnings),
        "results": [{name: item[name] for name in _RESULT} for item in verdict.rows()],
        "rules_version": rules_version,
        "decided_at": datetime.now(UTC),
    }
    where = f"run_id = '{run_id}' AND table_name = '{table}'"
    replace_rows(paths, "verdicts", [row], where=where, metadata={"run_id": run_id})


_RESULT = ("rule", "severity", "fingerprint", "value", "observed", "low", "high", "passed", "note")


def verdicts_of(paths: LakehousePaths, run_id: str) -> list[dict[str, Any]]:
    """The verdicts of a run, oldest first."""
    version = published_version(paths, "verdicts")
    if version is None:
        return []
    columns = ["table_name", "verdict", "failures", "warnings", "results", "decided_at"]
    ours = ds.field("run_id") == run_id
    rows = arrow_pinned(paths, "verdicts", version, columns=columns, where=ours).to_pylist()
    return sorted(rows, key=lambda row: row["decided_at"])


def earlier_values(paths: LakehousePaths, table: str, rule: str, *, but: str, limit: int) -> Sequence[float]:
    """Values of a rule in the last verdicts that passed, newest first, including older definitions of the rule.

    Args:
        but: run whose own verdicts are excluded.
        limit: largest number of values.
    """
    version = published_version(paths, "verdicts")
    if version is None:
        return ()
    ours = (ds.field("table_name") == table) & (ds.field("verdict") == PASSED) & (ds.field("run_id") != but)
    found = arrow_pinned(paths, "verdicts", version, columns=["decided_at", "results"], where=ours).to_pylist()
    newest = sorted(found, key=lambda row: row["decided_at"], reverse=True)
    values = [item["value"] for row in newest for item in row["results"] if item["rule"] == rule]
    return [value for value in values if value is not None][:limit]
