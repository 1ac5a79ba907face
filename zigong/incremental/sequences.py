"""Rebuilds user_sequences of some dates: keeps valid published rows, builds the affected ones and new dates."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.sequences import user_sequences
from zigong.incremental.known import EVENTS, of_source
from zigong.incremental.method import sequences_method
from zigong.incremental.rebuild import rebuild
from zigong.incremental.state import known_timelines
from zigong.incremental.touched import POINTS, PROFILES, RebuildPlan, plan_rebuild
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
    """The lineage of the run's sequences of these dates."""
    max_events = job.recipe.instructions.max_events
    method = sequences_method(
        timezone=job.recipe.business_timezone, max_events=max_events, policy_id=history_policy(max_events)
    )
    inputs = {table: job.version(table) for table in (EVENTS, PROFILES, POINTS)}
    return Lineage(method=method, inputs=inputs, dates=dates.iso, population=dates.population)


def due_sequences(job: Job, points: DataFrame, *, of: DataFrame | None = None) -> DataFrame:
    """The sequences of some observation points, built from the run's timelines and profiles.

    Args:
        job: the running job.
        points: rows of observation_points.
        of: the users of the points (column user_id), if they are few; None: any user.
    """
    timelines, profiles = known_timelines(job), of_source(job.read(PROFILES), job)
    max_events = job.recipe.instructions.max_events
    if of is not None:
        timelines, profiles = (table.join(of, "user_id", "left_semi") for table in (timelines, profiles))
    return user_sequences(timelines, profiles, points, max_events=max_events, policy_id=history_policy(max_events))


def rebuild_sequences(job: Job, dates: ObservationDates) -> None:
    """Publishes missing and affected rows in one commit; after a lost race it starts again from the new version.

    Raises:
        ConflictError: every attempt lost to other writers.
    """
    due = sequences_lineage(job, dates)
    rebuild(job, SEQUENCES, lambda: plan_rebuild(job, SEQUENCES, due), lambda plan: _publish(job, plan, due))


def _publish(job: Job, plan: RebuildPlan, due: Lineage) -> None:
    frames, basis = [], None
    if plan.full_dates:
        dates = ObservationDates(population=due.population, days=plan.full_dates)
        points = job.read(POINTS).where(dates.predicate)
        frames.append(due_sequences(job, points))
    if plan.touched is not None and plan.partitions and plan.published is not None:
        frames += [_rebuilt(job, plan.touched), _others(job, plan, plan.touched)]
        basis = Basis(table=SEQUENCES, version=plan.published, partitions=plan.partitions)
    frame = frames[0]
    for part in frames[1:]:
        frame = frame.unionByName(part)
    job.publish(SEQUENCES, frame, cells=plan.predicate, may_be_empty=not plan.full_dates, lineage=due, basis=basis)


def _rebuilt(job: Job, touched: DataFrame) -> DataFrame:
    """The sequences of the affected points as they should be now, without points that are no longer eligible."""
    named = F.broadcast(touched.select("user_id", "observation_date"))
    points = job.read(POINTS).where(F.col("population") == job.population)
    points = points.join(named, ["user_id", "observation_date"], "left_semi")
    return due_sequences(job, points, of=F.broadcast(touched.select("user_id").distinct()))


def _others(job: Job, plan: RebuildPlan, touched: DataFrame) -> DataFrame:
    """The unaffected published rows in the partitions of affected points."""
    published = open_pinned(job.spark, job.paths, SEQUENCES, plan.published or 0)
    named = F.broadcast(touched.select("user_id", "observation_date"))
    return published.where(plan.touched_predicate).join(named, ["user_id", "observation_date"], "left_anti")
