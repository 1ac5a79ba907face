"""Plans an incremental rebuild: which published sequences remain valid, and which points a change of inputs affects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.changes import touched_points, users_always
from zigong.console import LOG
from zigong.incremental.known import EVENTS, few_differing, users_changed
from zigong.incremental.limits import TooMuchChanged, require_few
from zigong.lakehouse.lineage import Lineage, Partition, changed_partitions, is_readable, lineage_by_date
from zigong.lakehouse.tables import open_pinned, published_version
from zigong.runs.dates import ObservationDates
from zigong.runs.job import Job

PROFILES, POINTS = "user_profiles", "observation_points"
PLACE = ("user_id", "observation_date", "user_bucket")


@dataclass(frozen=True, kw_only=True)
class RebuildPlan:
    """What has to be rebuilt for some dates, compared with what is published.

    Attributes:
        population: whose rows they are.
        published: version of the table; None: never published.
        full_dates: dates to build completely, since no published row can be reused.
        touched: affected points (user_id, observation_date, user_bucket) of the other dates; None: there are none.
        partitions: table partitions of these points.
    """

    population: str
    published: int | None
    full_dates: tuple[date, ...]
    touched: DataFrame | None
    partitions: frozenset[Partition]

    @property
    def touched_predicate(self) -> str:
        """SQL predicate of the partitions with affected points."""
        buckets: defaultdict[str, list[int]] = defaultdict(list)
        for place in self.partitions:
            buckets[place["observation_date"]].append(int(place["user_bucket"]))
        listed = (
            f"(observation_date = DATE'{day}' AND user_bucket IN ({', '.join(map(str, sorted(found)))}))"
            for day, found in sorted(buckets.items())
        )
        return f"population = '{self.population}' AND ({' OR '.join(listed)})"

    @property
    def predicate(self) -> str:
        """SQL predicate of everything to write; empty if there is nothing to write."""
        dates = ObservationDates(population=self.population, days=self.full_dates)
        parts = [
            *([dates.predicate] if self.full_dates else []),
            *([self.touched_predicate] if self.partitions else []),
        ]
        return parts[0] if len(parts) == 1 else " OR ".join(f"({part})" for part in parts)


def plan_rebuild(job: Job, table: str, due: Lineage) -> RebuildPlan:
    """Compares the lineage of the published rows with that of this build.

    Args:
        job: the running job.
        table: user_sequences.
        due: method, inputs and dates of this build.
    """
    published = published_version(job.paths, table)
    known = {} if published is None else lineage_by_date(job.paths, table, published, due.population)
    full_dates, former = [], defaultdict(list)
    for day in due.dates:
        if day in known and known[day].method == due.method:
            former[tuple(sorted(known[day].inputs.items()))].append(date.fromisoformat(day))
        else:
            full_dates.append(date.fromisoformat(day))
    found = []
    for inputs, days in former.items():
        try:
            found.append(_touched(job, table, published or 0, dict(inputs), days))
        except TooMuchChanged as reason:
            fields = {"table": table, "first": str(days[0]), "last": str(days[-1]), "reason": str(reason)}
            LOG.info("dates built completely", extra={"fields": fields})
            full_dates += days
    kept = [points for points in found if points is not None]
    touched = reduce(DataFrame.unionByName, kept).localCheckpoint() if kept else None
    places = touched.select(*PLACE[1:]).distinct().collect() if touched is not None else []
    return RebuildPlan(
        population=due.population,
        published=published,
        full_dates=tuple(sorted(full_dates)),
        touched=touched,
        partitions=frozenset(Partition.of(population=due.population, **place.asDict()) for place in places),
    )


def _touched(job: Job, table: str, published: int, former: dict[str, int], days: Sequence[date]) -> DataFrame | None:
    """The points of some dates that a change of any input affects; None if no input has changed.

    Raises:
        TooMuchChanged: a full build of these dates would be cheaper.
    """
    dates = (F.col("population") == job.population) & F.col("observation_date").isin(list(days))
    due = job.read(POINTS).where("eligible").where(dates).select(*PLACE)
    there = open_pinned(job.spark, job.paths, table, published).where(dates).select(*PLACE)
    users = [
        changed
        for changed in (users_changed(job, former[EVENTS], max(days)), _profiles_changed(job, former[PROFILES]))
        if changed is not None
    ]
    found = [_points_changed(job, former[POINTS], days)]
    if users:
        named = reduce(DataFrame.unionByName, users).groupBy("user_id").agg(F.min("changed_at").alias("changed_at"))
        require_few(named, of=there.count() // len(days))  # estimates the number of users without a shuffle
        found.append(touched_points(named, due.unionByName(there), days, job.recipe.business_timezone))
    kept = [points for points in found if points is not None]
    return reduce(DataFrame.unionByName, kept).distinct() if kept else None


def _profiles_changed(job: Job, former: int) -> DataFrame | None:
    rows = _rows_changed(job, PROFILES, former, changed_partitions(job.paths, PROFILES, former, job.version(PROFILES)))
    return None if rows is None else users_always(rows).localCheckpoint()


def _points_changed(job: Job, former: int, days: Sequence[date]) -> DataFrame | None:
    """The points whose eligibility has changed."""
    listed = {day.isoformat() for day in days}
    changed = changed_partitions(job.paths, POINTS, former, job.version(POINTS))
    here = frozenset(
        part for part in changed if part["population"] == job.population and part["observation_date"] in listed
    )
    rows = _rows_changed(job, POINTS, former, here)
    return None if rows is None else rows.select(*PLACE).distinct()


def _rows_changed(job: Job, table: str, former: int, partitions: frozenset[Partition]) -> DataFrame | None:
    if not partitions:
        return None
    if not is_readable(job.paths, table, former, partitions):
        raise TooMuchChanged(f"{table} version {former} is no longer readable")
    sides = (open_pinned(job.spark, job.paths, table, version) for version in (former, job.version(table)))
    if table == POINTS:
        days = [date.fromisoformat(part["observation_date"]) for part in partitions]
        dates = (F.col("population") == job.population) & F.col("observation_date").isin(days)
        sides = (side.where("eligible").where(dates).select(*PLACE, "loan_id") for side in sides)
    return few_differing(*sides)
