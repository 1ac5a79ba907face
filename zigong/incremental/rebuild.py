"""One publish of what a plan asks for, planned again when another writer was faster."""

from __future__ import annotations

from collections.abc import Callable

from zigong.incremental.touched import RebuildPlan
from zigong.lakehouse.commits import COMMIT_ATTEMPTS, StaleRowsError
from zigong.runs.job import Job


def rebuild(job: Job, table: str, planned: Callable[[], RebuildPlan], publish: Callable[[RebuildPlan], None]) -> None:
    """Publishes missing and affected rows in one commit; after a lost race it starts again from the new version.

    Raises:
        ConflictError: every attempt lost to other writers.
    """
    for attempt in range(COMMIT_ATTEMPTS):
        plan = planned()
        if not plan.predicate and plan.published is not None:
            return job.keep(table, plan.published)
        try:
            publish(plan)
        except StaleRowsError:
            if attempt == COMMIT_ATTEMPTS - 1:
                raise
        else:
            return None
    return None
