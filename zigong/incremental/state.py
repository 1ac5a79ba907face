"""The table user_timelines: everything known before one date, moved on by what became known since.

It is a cache. Its commit says which version of behavior_events it was made of, and with what code and time zone; where
that differs from what a build needs, the build mends it or makes it anew, and never uses it as it is. No run pins it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.advance import advanced_timelines, timelines_of
from zigong.behavior.timeline import user_timelines
from zigong.console import LOG
from zigong.incremental.known import EVENTS, day_after_last_known, known_between, users_changed
from zigong.incremental.limits import TooMuchChanged, require_few
from zigong.incremental.method import timelines_method
from zigong.lakehouse.lineage import Lineage, lineages, rows_in
from zigong.lakehouse.tables import open_pinned, published_version
from zigong.runs.job import Job

STATE = "user_timelines"


@dataclass(frozen=True, kw_only=True)
class State:
    """A published state.

    Attributes:
        version: of the table.
        known_before: everything known before the local midnight of this date is in it.
        events_version: the version of behavior_events it was made of.
    """

    version: int
    known_before: date
    events_version: int


def known_timelines(job: Job, until: date) -> DataFrame:
    """user_timelines of everything known before ``until``, or a later date, as the run's behavior_events have it.

    The newest state is moved on to ``until`` and published; without one that can be used, the whole log is read. A
    state never claims days that the log has not reached: what will be known then is still to come.
    """
    until = min(until, day_after_last_known(job) or until)
    state = newest_state(job)
    if state is not None:
        try:
            return _moved_on(job, state, until)
        except TooMuchChanged as reason:
            LOG.info("state made anew", extra={"fields": {"table": STATE, "reason": str(reason)}})
    timezone = job.recipe.business_timezone
    return _published(job, user_timelines(known_between(job.read(EVENTS), None, until, timezone), timezone), until)


def newest_state(job: Job) -> State | None:
    """The newest published state, None without one that this code and time zone made."""
    version = published_version(job.paths, STATE)
    newest = None if version is None else next(lineages(job.paths, STATE, version), None)
    if version is None or newest is None or newest.method != timelines_method(job.recipe.business_timezone):
        return None
    (known_before,) = newest.dates
    return State(version=version, known_before=date.fromisoformat(known_before), events_version=newest.inputs[EVENTS])


def _moved_on(job: Job, state: State, until: date) -> DataFrame:
    """The state with the users mended whose past has changed since, and with what became known after it.

    Raises:
        TooMuchChanged: mending would cost more than building from the whole log.
    """
    timezone, events = job.recipe.business_timezone, job.read(EVENTS)
    target = max(until, state.known_before)
    stale = users_changed(job, state.events_version, state.known_before)
    timelines = _rows(job, state.version, state.known_before)
    if target > state.known_before:
        arrived = known_between(events, state.known_before, target, timezone).localCheckpoint()
        timelines = advanced_timelines(timelines, arrived, timezone)
    if stale is not None:
        require_few(stale, of=rows_in(job.paths, STATE, state.version))
        mended = timelines_of(known_between(events, None, target, timezone), stale, timezone)
        timelines = timelines.join(F.broadcast(stale.select("user_id")), "user_id", "left_anti").unionByName(mended)
    if stale is None and target == state.known_before:
        return timelines
    return _published(job, timelines, target)


def _published(job: Job, timelines: DataFrame, known_before: date) -> DataFrame:
    """Replaces the state, whole; older ones leave with the same commit."""
    lineage = Lineage(
        method=timelines_method(job.recipe.business_timezone),
        inputs={EVENTS: job.version(EVENTS)},
        dates=(known_before.isoformat(),),
    )
    rows = timelines.withColumn("known_before", F.lit(known_before))
    cells = f"known_before <= DATE'{known_before.isoformat()}'"
    return _rows(job, job.publish(STATE, rows, cells=cells, lineage=lineage, pin=False), known_before)


def _rows(job: Job, version: int, known_before: date) -> DataFrame:
    rows = open_pinned(job.spark, job.paths, STATE, version).where(F.col("known_before") == F.lit(known_before))
    return rows.select("user_id", "user_bucket", "timeline")
