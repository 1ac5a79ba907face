"""Events by when they became known, and whose past has changed since an older version of the log."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.changes import differing_rows, users_of_changes
from zigong.incremental.limits import TooMuchChanged
from zigong.lakehouse.business_time import local_midnight
from zigong.lakehouse.lineage import changed_partitions, is_readable, newest_instant
from zigong.lakehouse.tables import open_pinned
from zigong.runs.job import Job

MAX_CHANGED_ROWS = 1_000_000  # rows whose digests travel to every worker; a source that changed more is built whole
EVENTS = "behavior_events"
# known_date follows the time zone of the ingest; no two zones are further apart than this.
_MARGIN = timedelta(days=2)


def known_between(events: DataFrame, first: date | None, end: date, timezone: str) -> DataFrame:
    """The events known in [first, end), by local midnights; only their partitions are read."""
    known = events.where(
        (F.col("known_date") < F.lit(end + _MARGIN)) & (F.col("known_at") < local_midnight(F.lit(end), timezone))
    )
    if first is None:
        return known
    return known.where(
        (F.col("known_date") >= F.lit(first - _MARGIN)) & (F.col("known_at") >= local_midnight(F.lit(first), timezone))
    )


def day_after_last_known(job: Job) -> date | None:
    """The first date from which on nothing is known in the run's behavior_events; None where the log does not tell."""
    newest = newest_instant(job.paths, EVENTS, job.version(EVENTS), "known_at")
    if newest is None:
        return None
    # Statistics are cut to milliseconds.
    local = (newest + timedelta(milliseconds=1)).astimezone(ZoneInfo(job.recipe.business_timezone))
    return local.date() + timedelta(days=1)


def users_changed(job: Job, former: int, end: date) -> DataFrame | None:
    """The users (user_id, changed_at) whose events known before ``end`` differ between a former version and the run's.

    None: nobody's.

    Raises:
        TooMuchChanged: the former version is gone, or too many rows differ.
    """
    now = job.version(EVENTS)
    changed = changed_partitions(job.paths, EVENTS, former, now)
    partitions = frozenset(part for part in changed if date.fromisoformat(part["known_date"]) < end + _MARGIN)
    if not partitions:
        return None
    if not is_readable(job.paths, EVENTS, former, partitions):
        raise TooMuchChanged(f"{EVENTS} version {former} is no longer readable")
    timezone = job.recipe.business_timezone
    days = [date.fromisoformat(part["known_date"]) for part in partitions]
    before, after = (
        known_between(open_pinned(job.spark, job.paths, EVENTS, version), None, end, timezone).where(
            F.col("known_date").isin(days)
        )
        for version in (former, now)
    )
    rows = few_differing(before, after)
    if rows is None:
        return None
    return users_of_changes(rows, known_between(job.read(EVENTS), None, end, timezone)).localCheckpoint()


def few_differing(before: DataFrame, after: DataFrame) -> DataFrame | None:
    """The rows that are in one frame only, at hand; None where the frames are equal.

    Raises:
        TooMuchChanged: there are more than ``MAX_CHANGED_ROWS``.
    """
    rows = differing_rows(before, after, at_most=MAX_CHANGED_ROWS)
    if rows is None:
        raise TooMuchChanged(f"more than {MAX_CHANGED_ROWS:,} rows changed")
    kept = rows.localCheckpoint()
    return None if kept.isEmpty() else kept
