"""What the tables of a run are judged beside: its clock, earlier verdicts, its other tables, pinned references."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from zigong.lakehouse.verdicts import earlier_values
from zigong.quality.measures import Beside
from zigong.quality.reference import References

if TYPE_CHECKING:
    from zigong.job import Job
    from zigong.lakehouse.paths import LakehousePaths


def beside_of(job: Job, *, whole: bool = True) -> Beside:
    """The surroundings of a job's tables.

    Args:
        whole: whether a table is built whole, not only where something is missing or was touched.
    """
    recipe, paths, run_id = job.recipe, job.paths, job.run.run_id

    def earlier(table: str, rule: str, versions: int) -> Sequence[float]:
        return earlier_values(paths, table, rule, but=run_id, limit=versions)

    return Beside(
        run_id=run_id,
        as_of=datetime.combine(recipe.as_of, time.min, ZoneInfo(recipe.business_timezone)),
        earlier=earlier if whole else None,
        other=job.read,
        references=references_of(paths),
    )


def references_of(paths: LakehousePaths) -> References:
    """The pinned references of a lakehouse."""
    return References(paths.local("_quality", "references"))
