"""The context in which a run's tables are evaluated: its date, earlier verdicts, other tables and pinned references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, time
from zoneinfo import ZoneInfo

from pyspark.sql import DataFrame

from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.verdicts import earlier_values
from zigong.quality.measures import AuditContext
from zigong.quality.reference import References
from zigong.recipe import Recipe


def audit_context(
    recipe: Recipe, paths: LakehousePaths, run_id: str, *, other: Callable[[str], DataFrame], whole: bool = True
) -> AuditContext:
    """The context for the tables of a run.

    Args:
        other: opens another table at the version the run reads.
        whole: whether tables are built completely, rather than only their missing or changed parts.
    """

    def earlier(table: str, rule: str, versions: int) -> Sequence[float]:
        return earlier_values(paths, table, rule, but=run_id, limit=versions)

    return AuditContext(
        run_id=run_id,
        as_of=datetime.combine(recipe.as_of, time.min, ZoneInfo(recipe.business_timezone)),
        earlier=earlier if whole else None,
        other=other,
        references=references_of(paths),
    )


def references_of(paths: LakehousePaths) -> References:
    """The pinned references of a lakehouse."""
    return References(paths.local("_quality", "references"))
