"""user_sequences of some dates: published rows that still stand stay, touched ones and new dates are built."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.sequences import user_sequences
from zigong.incremental.known import EVENTS
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


def due_sequences(job: Job, points: DataFrame, *, of: DataFrame | None = None) -> DataFrame:
    """The sequences of some observation points, built of the run's timelines and profiles.

    Args:
        points: rows of observation_points.
        of: the users the points belong to (column user_id), where they are few; None: all may be among them.
    """
    timelines, profiles, max_events = known_timelines(job), job.read(PROFILES), job.recipe.instructions.max_events
    if of is not None:
        timelines, profiles = (table.join(of, "user_id", "left_semi") for table in (timelines, profiles))
    return user_sequences(timelines, profiles, points, max_events=max_events, policy_id=history_policy(max_events))


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
        frames.append(due_sequences(job, points))
    if standing.touched is not None and standing.cells and standing.published is not None:
        frames += [_rebuilt(job, standing.touched), _others(job, standing, standing.touched)]
        basis = Basis(table=SEQUENCES, version=standing.published, partitions=standing.cells)
    frame = frames[0]
    for part in frames[1:]:
        frame = frame.unionByName(part)
    job.publish(SEQUENCES, frame, cells=standing.predicate, may_be_empty=not standing.whole, lineage=due, basis=basis)


def _rebuilt(job: Job, touched: DataFrame) -> DataFrame:
    """The touched points as they are due; a point that is not eligible any more is left out."""
    named = F.broadcast(touched.select("user_id", "observation_date"))
    points = job.read(POINTS).join(named, ["user_id", "observation_date"], "left_semi")
    return due_sequences(job, points, of=F.broadcast(touched.select("user_id").distinct()))


def _others(job: Job, standing: Standing, touched: DataFrame) -> DataFrame:
    """The published rows of the touched cells that nothing touches, where they lie."""
    published = open_pinned(job.spark, job.paths, SEQUENCES, standing.published or 0)
    named = F.broadcast(touched.select("user_id", "observation_date"))
    return published.where(standing.touched_predicate).join(named, ["user_id", "observation_date"], "left_anti")
