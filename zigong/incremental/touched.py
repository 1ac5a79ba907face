"""Which published sequences still stand, and which points a change of the inputs touches."""

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
class Standing:
    """What a build of some dates finds published.

    Attributes:
        published: version of the table; None: never published.
        whole: dates to build from timelines, since nothing published can be taken over.
        touched: points (user_id, observation_date, user_bucket) of the other dates to build again; None: not one.
        cells: the cells these points lie in.
    """

    published: int | None
    whole: tuple[date, ...]
    touched: DataFrame | None
    cells: frozenset[Partition]

    @property
    def touched_predicate(self) -> str:
        """SQL predicate of the touched cells."""
        buckets: defaultdict[str, list[int]] = defaultdict(list)
        for cell in self.cells:
            buckets[cell["observation_date"]].append(int(cell["user_bucket"]))
        listed = (
            f"(observation_date = DATE'{day}' AND user_bucket IN ({', '.join(map(str, sorted(found)))}))"
            for day, found in sorted(buckets.items())
        )
        return " OR ".join(listed)

    @property
    def predicate(self) -> str:
        """SQL predicate of all that is to be written; empty: nothing."""
        dates = [ObservationDates(days=self.whole).predicate] if self.whole else []
        return " OR ".join([*dates, *([self.touched_predicate] if self.cells else [])])


def standing_of(job: Job, table: str, due: Lineage) -> Standing:
    """Compares what the published rows were built from with what is due.

    Args:
        table: user_sequences.
        due: method, inputs and dates of this build.
    """
    published = published_version(job.paths, table)
    known = {} if published is None else lineage_by_date(job.paths, table, published)
    whole, former = [], defaultdict(list)
    for day in due.dates:
        if day in known and known[day].method == due.method:
            former[tuple(sorted(known[day].inputs.items()))].append(date.fromisoformat(day))
        else:
            whole.append(date.fromisoformat(day))
    found = []
    for inputs, days in former.items():
        try:
            found.append(_touched(job, table, published or 0, dict(inputs), days))
        except TooMuchChanged as reason:
            told = {"table": table, "first": str(days[0]), "last": str(days[-1]), "reason": str(reason)}
            LOG.info("dates built whole", extra={"fields": told})
            whole += days
    kept = [points for points in found if points is not None]
    touched = reduce(DataFrame.unionByName, kept).localCheckpoint() if kept else None
    places = touched.select(*PLACE[1:]).distinct().collect() if touched is not None else []
    return Standing(
        published=published,
        whole=tuple(sorted(whole)),
        touched=touched,
        cells=frozenset(Partition.of(**place.asDict()) for place in places),
    )


def _touched(job: Job, table: str, published: int, former: dict[str, int], days: Sequence[date]) -> DataFrame | None:
    """The points of some dates that a change of any input touches; None where no input has changed.

    Raises:
        TooMuchChanged: building these dates whole is the shorter way.
    """
    dates = F.col("observation_date").isin(list(days))
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
        require_few(named, of=there.count() // len(days))  # users, without a shuffle of all their ids
        found.append(touched_points(named, due.unionByName(there), days, job.recipe.business_timezone))
    kept = [points for points in found if points is not None]
    return reduce(DataFrame.unionByName, kept).distinct() if kept else None


def _profiles_changed(job: Job, former: int) -> DataFrame | None:
    rows = _rows_changed(job, PROFILES, former, changed_partitions(job.paths, PROFILES, former, job.version(PROFILES)))
    return None if rows is None else users_always(rows).localCheckpoint()


def _points_changed(job: Job, former: int, days: Sequence[date]) -> DataFrame | None:
    """The points that were eligible and are not any more, or the other way round."""
    listed = {day.isoformat() for day in days}
    changed = changed_partitions(job.paths, POINTS, former, job.version(POINTS))
    here = frozenset(part for part in changed if part["observation_date"] in listed)
    return _rows_changed(job, POINTS, former, here)


def _rows_changed(job: Job, table: str, former: int, partitions: frozenset[Partition]) -> DataFrame | None:
    if not partitions:
        return None
    if not is_readable(job.paths, table, former, partitions):
        raise TooMuchChanged(f"{table} version {former} is no longer readable")
    sides = (open_pinned(job.spark, job.paths, table, version) for version in (former, job.version(table)))
    if table == POINTS:
        days = [date.fromisoformat(part["observation_date"]) for part in partitions]
        sides = (side.where("eligible").where(F.col("observation_date").isin(days)).select(*PLACE) for side in sides)
    return few_differing(*sides)
