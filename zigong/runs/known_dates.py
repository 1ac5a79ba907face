"""The nights of a step: which dates it covers besides its own, and whether it may work on those that were ingested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

from pyspark.sql import functions as F

from zigong.runs.job import Job
from zigong.runs.nights import healed, missing_before, nights_of, record_nights, require_complete, spans_text


@dataclass(frozen=True, kw_only=True)
class NewestDates:
    """The newest known dates of a source's published events.

    Attributes:
        of_all: of all events; None: there are none.
        before_as_of: of the events known before the recipe's ``as_of``; None: there are none.
    """

    of_all: date | None
    before_as_of: date | None


def newest_dates(job: Job, source: str) -> NewestDates | None:
    """The newest known dates of what an ingest without an end has published; None: the ingest has an end."""
    if job.dates.end is not None:
        return None
    known = F.col("known_date")
    (row,) = (
        job.read("behavior_events")
        .where(F.col("source") == source)
        .agg(F.max(known).alias("of_all"), F.max(F.when(known < F.lit(job.recipe.as_of), known)).alias("before_as_of"))
        .collect()
    )
    return NewestDates(**row.asDict())


def cover_missing_nights(job: Job, source: str) -> None:
    """Extends a scheduled night to the nights before it that failed permanently, or refuses, as the recipe specifies.

    Raises:
        DataError: nights are missing that it may not or cannot cover.
    """
    first, nights = job.dates.first, nights_of(job.paths, source)
    if job.schedule != "daily" or first is None or nights is None:
        return
    if job.recipe.source.missing_nights == "heal":
        job.dates = healed(job.dates, nights)
    covered = job.dates.first or first
    require_complete(source, missing_before(nights, covered), purpose="this night would skip them")
    if covered < first:
        days = [covered + timedelta(days=number) for number in range((first - covered).days)]
        job.warn(f"source {source}: {spans_text(days)} had never been ingested; this night ingests them as well")


def record_ingest(job: Job, source: str, newest: NewestDates | None) -> None:
    """Records the known dates that an ingest has covered; without an end, those up to its newest event."""
    end = job.dates.end
    if newest is not None and newest.of_all is not None:
        end = newest.of_all + timedelta(days=1)
    if end is None or (job.dates.first is not None and job.dates.first >= end):
        return
    record_nights(
        job.paths,
        source=source,
        run_id=job.run.run_id,
        attempt=job.attempt.token,
        dates=replace(job.dates, end=end),
        end=end,
    )


def require_ingested(job: Job, source: str) -> None:
    """Ends a step that would take a log with holes, or one that has fallen silent, for the truth.

    A schedule that works up to its own date needs every night before it; any other run only must not find a hole.

    Raises:
        DataError: known dates before ``as_of`` were never ingested.
    """
    nights, as_of = nights_of(job.paths, source), job.recipe.as_of
    if nights is None:
        return
    current = job.schedule in ("daily", "score") and nights.end > nights.begin
    missing = missing_before(nights, as_of) if current else [day for day in nights.missing if day < as_of]
    require_complete(source, missing, purpose=f"{job.step} as of {as_of} would work without them")
