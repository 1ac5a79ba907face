"""The table user_timelines: behavior_events grouped by user, the common input of all steps that need histories.

Observation points, labels, sequences and the corpus of the base are built from it, so a run sorts the events once. Its
commit records the version of behavior_events, the source, the code and the time zone it was built with. A step reuses
the newest version only if all four match; otherwise it rebuilds the table or, with ``engine.incremental``, updates it.
So the table is a cache: its rows follow from the run's pinned behavior_events, and no run pins it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.advance import advanced_timelines, timelines_of
from zigong.behavior.timeline import user_timelines
from zigong.console import LOG
from zigong.incremental.known import EVENTS, day_after_last_known, known_between, source_events, users_changed
from zigong.incremental.limits import TooMuchChanged, require_few
from zigong.incremental.method import timelines_method
from zigong.lakehouse.lineage import Lineage, lineages, rows_in
from zigong.lakehouse.tables import open_pinned, published_version
from zigong.recipe.source import source_names
from zigong.runs.job import Job

STATE = "user_timelines"


@dataclass(frozen=True, kw_only=True)
class State:
    """A published state.

    Attributes:
        version: version of user_timelines.
        known_before: it contains everything known before the local midnight of this date.
        events_version: version of behavior_events it was built from.
    """

    version: int
    known_before: date
    events_version: int


def known_timelines(job: Job) -> DataFrame:
    """user_timelines of the run's behavior_events, up to the last date that any step of the run needs.

    They serve every T of the recipe and its ``as_of``; ``timeline.as_of`` removes what became known later. The first
    step that needs them publishes them; the others read the published version.
    """
    until, state = _needed_until(job), newest_state(job)
    if state is not None and state.events_version == job.version(EVENTS) and state.known_before >= until:
        return _rows(job, state.version, state.known_before)
    if state is not None and job.recipe.engine.incremental:
        try:
            return _updated(job, state, until)
        except TooMuchChanged as reason:
            LOG.info("timelines rebuilt", extra={"fields": {"table": STATE, "reason": str(reason)}})
    timezone = job.recipe.business_timezone
    return _published(job, user_timelines(known_between(source_events(job), None, until, timezone), timezone), until)


def newest_state(job: Job) -> State | None:
    """The newest published state; None if there is none that was built by this code and time zone."""
    version = published_version(job.paths, STATE)
    newest = None if version is None else next(lineages(job.paths, STATE, version), None)
    if version is None or newest is None or newest.method != _method(job):
        return None
    (known_before,) = newest.dates
    return State(version=version, known_before=date.fromisoformat(known_before), events_version=newest.inputs[EVENTS])


def _method(job: Job) -> str:
    return timelines_method(job.recipe.business_timezone, source_names(job.recipe))


def _needed_until(job: Job) -> date:
    """The last date that the recipe needs, or the day after the last known event if that is earlier."""
    last = max(job.recipe.as_of, *job.recipe.observation_dates())
    return min(last, day_after_last_known(job) or last)


def _updated(job: Job, state: State, until: date) -> DataFrame:
    """The state with new events added, and with users rebuilt whose history has changed since.

    Raises:
        TooMuchChanged: a full build would be cheaper.
    """
    timezone, events = job.recipe.business_timezone, source_events(job)
    target = max(until, state.known_before)
    stale = users_changed(job, state.events_version, state.known_before)
    timelines = _rows(job, state.version, state.known_before)
    if target > state.known_before:
        arrived = known_between(events, state.known_before, target, timezone).localCheckpoint()
        timelines = advanced_timelines(timelines, arrived, timezone)
    if stale is not None:
        require_few(stale, of=rows_in(job.paths, STATE, state.version))
        rebuilt = timelines_of(known_between(events, None, target, timezone), stale, timezone)
        timelines = timelines.join(F.broadcast(stale.select("user_id")), "user_id", "left_anti").unionByName(rebuilt)
    if stale is None and target == state.known_before:
        return timelines
    return _published(job, timelines, target)


def _published(job: Job, timelines: DataFrame, known_before: date) -> DataFrame:
    """Replaces the complete state in one commit and returns its rows."""
    lineage = Lineage(
        method=_method(job),
        inputs={EVENTS: job.version(EVENTS)},
        dates=(known_before.isoformat(),),
    )
    rows = timelines.withColumn("known_before", F.lit(known_before))
    version = job.publish(STATE, rows, cells="true", lineage=lineage, pin=False)
    return _rows(job, version, known_before)


def _rows(job: Job, version: int, known_before: date) -> DataFrame:
    rows = open_pinned(job.spark, job.paths, STATE, version).where(F.col("known_before") == F.lit(known_before))
    return rows.select("user_id", "user_bucket", "timeline")
