"""Selects events by when they became known, and finds the users whose history changed since an older table version."""

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
from zigong.recipe.source import source_names
from zigong.runs.job import Job

MAX_CHANGED_ROWS = 1_000_000  # their digests are broadcast; if more rows changed, everything is rebuilt
EVENTS = "behavior_events"
# known_date is in the time zone of the ingest; no two time zones differ by more than this.
_MARGIN = timedelta(days=2)


def source_events(job: Job) -> DataFrame:
    """The run's behavior_events of the recipe's sources: no other source enters its histories and labels."""
    return of_source(job.read(EVENTS), job)


def of_source(rows: DataFrame, job: Job) -> DataFrame:
    """The rows of the recipe's sources."""
    return rows.where(F.col("source").isin(list(source_names(job.recipe))))


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
    """The first date after all known_at of the run's behavior_events; None if the Delta log has no statistics."""
    newest = newest_instant(job.paths, EVENTS, job.version(EVENTS), "known_at")
    if newest is None:
        return None
    # Delta statistics are truncated to milliseconds.
    local = (newest + timedelta(milliseconds=1)).astimezone(ZoneInfo(job.recipe.business_timezone))
    return local.date() + timedelta(days=1)


def users_changed(job: Job, former: int, end: date) -> DataFrame | None:
    """The users (user_id, changed_at) whose events known before ``end`` differ between an older version and the run's.

    Returns None if no event differs.

    Raises:
        TooMuchChanged: the older version was removed, or too many rows differ.
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
        known_between(of_source(open_pinned(job.spark, job.paths, EVENTS, version), job), None, end, timezone).where(
            F.col("known_date").isin(days)
        )
        for version in (former, now)
    )
    rows = few_differing(before, after)
    if rows is None:
        return None
    return users_of_changes(rows, known_between(source_events(job), None, end, timezone)).localCheckpoint()


def few_differing(before: DataFrame, after: DataFrame) -> DataFrame | None:
    """The rows that are in only one of the frames, checkpointed; None if the frames are equal.

    Raises:
        TooMuchChanged: more than ``MAX_CHANGED_ROWS`` rows differ.
    """
    rows = differing_rows(before, after, at_most=MAX_CHANGED_ROWS)
    if rows is None:
        raise TooMuchChanged(f"more than {MAX_CHANGED_ROWS:,} rows changed")
    kept = rows.localCheckpoint()
    return None if kept.isEmpty() else kept
