"""Rebuilds behavior_features of some dates: only partitions whose sequences have changed, and new dates."""

from __future__ import annotations

from datetime import date

from pyspark.sql import functions as F

from zigong.features.settings import FEATURE_TABLE, FeatureSettings
from zigong.features.table import behavior_features
from zigong.incremental.method import features_method
from zigong.incremental.rebuild import rebuild
from zigong.incremental.sequences import SEQUENCES
from zigong.incremental.touched import RebuildPlan
from zigong.lakehouse.counting import RowsRead
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.lineage import Lineage, Partition, changed_partitions, lineage_by_date
from zigong.lakehouse.tables import open_pinned, published_version
from zigong.runs.dates import ObservationDates
from zigong.runs.job import Job


def publish_features(
    job: Job, dates: ObservationDates, *, cells: str, basis: Basis | None = None, may_be_empty: bool = False
) -> None:
    """Publishes a row for every sequence in some cells of the run's dates; each sequence that is read is counted."""
    sequences = job.read(SEQUENCES).where(cells)
    job.publish(
        FEATURE_TABLE,
        behavior_features(sequences, FeatureSettings.of(job.recipe)),
        cells=cells,
        may_be_empty=may_be_empty,
        lineage=features_lineage(job, dates),
        basis=basis,
        read=RowsRead(rows=sequences.count()),
    )


def features_lineage(job: Job, dates: ObservationDates) -> Lineage:
    """The lineage of the run's features of these dates."""
    settings = FeatureSettings.of(job.recipe)
    return Lineage(
        method=features_method(**vars(settings)),
        inputs={SEQUENCES: job.version(SEQUENCES)},
        dates=dates.iso,
        population=dates.population,
    )


def rebuild_features(job: Job, dates: ObservationDates) -> None:
    """Publishes missing and affected rows in one commit: the features of a sequence are in its own partition.

    Raises:
        ConflictError: every attempt lost to other writers.
    """

    def publish(plan: RebuildPlan) -> None:
        basis = _reused(job, plan, dates)
        publish_features(job, dates, cells=plan.predicate, basis=basis, may_be_empty=not plan.full_dates)

    rebuild(job, FEATURE_TABLE, lambda: plan_features(job, features_lineage(job, dates)), publish)


def plan_features(job: Job, due: Lineage) -> RebuildPlan:
    """Compares the lineage of the published rows with that of this build.

    Args:
        job: the running job.
        due: method, input and dates of this build.
    """
    published = published_version(job.paths, FEATURE_TABLE)
    known = {} if published is None else lineage_by_date(job.paths, FEATURE_TABLE, published, due.population)
    reused = {
        day: known[day].inputs[SEQUENCES] for day in due.dates if day in known and known[day].method == due.method
    }
    changed = {
        former: changed_partitions(job.paths, SEQUENCES, former, due.inputs[SEQUENCES])
        for former in set(reused.values())
    }
    return RebuildPlan(
        population=due.population,
        published=published,
        full_dates=tuple(date.fromisoformat(day) for day in due.dates if day not in reused),
        touched=None,
        partitions=frozenset(
            place
            for day, former in reused.items()
            for place in changed[former]
            if (place["population"], place["observation_date"]) == (due.population, day)
        ),
    )


def _reused(job: Job, plan: RebuildPlan, dates: ObservationDates) -> Basis | None:
    """The published partitions of dates that are not built completely: what is kept of them must not change."""
    days = [day for day in dates.days if day not in plan.full_dates]
    if plan.published is None or not days:
        return None
    rows = open_pinned(job.spark, job.paths, FEATURE_TABLE, plan.published)
    ours = rows.where((F.col("population") == plan.population) & F.col("observation_date").isin(days))
    places = ours.select("population", "observation_date", "user_bucket").distinct().collect()
    found = frozenset(Partition.of(**place.asDict()) for place in places)
    return Basis(table=FEATURE_TABLE, version=plan.published, partitions=found | plan.partitions)
