"""What the tables of a run are judged beside: its clock, earlier verdicts, its other tables, pinned references."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from zigong.lakehouse.verdicts import earlier_values
from zigong.quality.measures import Beside

if TYPE_CHECKING:
    from zigong.job import Job


def beside_of(job: Job) -> Beside:
    """The surroundings of a job's tables."""
    recipe, paths, run_id = job.recipe, job.paths, job.run.run_id

    def earlier(table: str, rule: str, versions: int) -> Sequence[float]:
        return earlier_values(paths, table, rule, but=run_id, limit=versions)

    return Beside(
        run_id=run_id,
        as_of=datetime.combine(recipe.as_of, time.min, ZoneInfo(recipe.business_timezone)),
        earlier=earlier,
        other=job.read,
        references=paths.local("_quality", "references"),
    )
