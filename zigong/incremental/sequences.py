"""user_sequences of some dates: published rows that still stand stay, touched ones and new dates are built."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.advance import timelines_of
from zigong.behavior.sequences import sequences_of
from zigong.incremental.known import EVENTS, known_between
from zigong.incremental.method import sequences_method
from zigong.incremental.state import known_timelines
from zigong.incremental.touched import POINTS, PROFILES, Standing, standing_of
from zigong.lakehouse.commits import COMMIT_ATTEMPTS, StaleRowsError
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.lineage import Lineage
from zigong.lakehouse.tables import open_pinned
from zigong.runs.dates import ObservationDates
from zigong.runs.job import Job

SEQUENCES = "user_sequences"


def history_policy(max_events: int) -> str:
    """The name of the history policy; part of sequence_id."""
    return f"newest-{max_events}-whole-months"


def sequences_lineage(job: Job, dates: ObservationDates) -> Lineage:
    """What the run's sequences of these dates are built from."""
    max_events = job.recipe.instructions.max_events
    method = sequences_method(
        timezone=job.recipe.business_timezone, max_events=max_events, policy_id=history_policy(max_events)
    )
    inputs = {table: job.version(table) for table in (EVENTS, PROFILES, POINTS)}
    return Lineage(method=method, inputs=inputs, dates=dates.iso)


def rebuild_sequences(job: Job, dates: ObservationDates) -> None:
    """Publishes what is missing or touched, in one commit; a lost race starts again from what is published then.

    Raises:
        ConflictError: other writers kept winning.
    """
    due = sequences_lineage(job, dates)
    for attempt in range(COMMIT_ATTEMPTS):
        standing = standing_of(job, SEQUENCES, due)
        if not standing.predicate and standing.published is not None:
            return job.keep(SEQUENCES, standing.published)
        try:
            _publish(job, standing, due)
        except StaleRowsError:
            if attempt == COMMIT_ATTEMPTS - 1:
                raise
        else:
            return None
    return None


def _publish(job: Job, standing: Standing, due: Lineage) -> None:
    frames, basis = [], None
    if standing.whole:
        dates = ObservationDates(days=standing.whole)
        points = job.read(POINTS).where(dates.predicate)
        frames.append(_sequences(job, known_timelines(job, max(dates.days)), job.read(PROFILES), points))
    if standing.touched is not None and standing.cells and standing.published is not None:
        frames += [_rebuilt(job, standing.touched), _others(job, standing, standing.touched)]
        basis = Basis(table=SEQUENCES, version=standing.published, partitions=standing.cells)
    frame = frames[0]
    for part in frames[1:]:
        frame = frame.unionByName(part)
    job.publish(SEQUENCES, frame, cells=standing.predicate, may_be_empty=not standing.whole, lineage=due, basis=basis)


def _rebuilt(job: Job, touched: DataFrame) -> DataFrame:
    """The touched points as they are due; a point that is not eligible any more is left out."""
    timezone, places = job.recipe.business_timezone, F.broadcast(touched)
    users = touched.select("user_id").distinct()
    (row,) = touched.select(F.max("observation_date").alias("last")).collect()
    last: date = row["last"]
    timelines = timelines_of(known_between(job.read(EVENTS), None, last, timezone), users, timezone)
    profiles = job.read(PROFILES).join(F.broadcast(users), "user_id", "left_semi")
    points = job.read(POINTS).join(places, ["user_id", "observation_date"], "left_semi")
    return _sequences(job, timelines, profiles, points)


def _others(job: Job, standing: Standing, touched: DataFrame) -> DataFrame:
    """The published rows of the touched cells that nothing touches, where they lie."""
    published = open_pinned(job.spark, job.paths, SEQUENCES, standing.published or 0)
    named = F.broadcast(touched.select("user_id", "observation_date"))
    return published.where(standing.touched_predicate).join(named, ["user_id", "observation_date"], "left_anti")


def _sequences(job: Job, timelines: DataFrame, profiles: DataFrame, points: DataFrame) -> DataFrame:
    max_events = job.recipe.instructions.max_events
    return sequences_of(timelines, profiles, points, max_events=max_events, policy_id=history_policy(max_events))
