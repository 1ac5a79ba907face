"""What labels are built for, and whether they can be used: settled dates, event types, classes of the splits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.dataset.classes import one_class_splits
from zigong.dataset.members import split_column
from zigong.errors import DataError
from zigong.lakehouse.lineage import newest_instant
from zigong.lakehouse.tables import open_pinned, published_version, require_columns
from zigong.recipe import Recipe
from zigong.recipe.population import label_settings_of
from zigong.runs.dates import ObservationDates
from zigong.runs.job import Job

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LABELS, EVENTS = "performance_labels", "behavior_events"


@dataclass(frozen=True, kw_only=True)
class DueLabels:
    """The observation dates whose labels a run may publish.

    Attributes:
        due: dates without labels, or with labels as of this run's date or an earlier one.
        standing: dates whose published labels are as of a later date.
        version: newest version of the labels, None if there is none.
    """

    due: ObservationDates
    standing: tuple[date, ...]
    version: int | None


def label_predicate(recipe: Recipe, dates: ObservationDates) -> str:
    """SQL predicate of the labels of a recipe for some observation dates."""
    return f"label_settings = '{label_settings_of(recipe)}' AND {dates.predicate}"


def due_labels(job: Job, dates: ObservationDates) -> DueLabels:
    """Divides observation dates by what is published: labels never go back to an earlier ``as_of``."""
    version, as_of = published_version(job.paths, LABELS), job.recipe.as_of
    if version is None:
        return DueLabels(due=dates, standing=(), version=None)
    opened = open_pinned(job.spark, job.paths, LABELS, version)
    require_columns(LABELS, opened.columns, ["as_of_date", "label_settings"])
    published = opened.where(label_predicate(job.recipe, dates)).groupBy("observation_date")
    newest = published.agg(F.max("as_of_date").alias("as_of_date")).collect()
    standing = tuple(sorted(row["observation_date"] for row in newest if row["as_of_date"] > as_of))
    if standing:
        latest = max(row["as_of_date"] for row in newest)
        job.warn(
            f"the labels of {len(standing)} observation dates are published as of {latest}; this run, as of {as_of}, "
            "leaves them as they are"
        )
    days = tuple(day for day in dates.days if day not in standing)
    return DueLabels(due=ObservationDates(population=dates.population, days=days), standing=standing, version=version)


def warn_of_later_events(job: Job) -> None:
    """Warns where events are published that became known after ``as_of``: the run does not use them."""
    newest = newest_instant(job.paths, EVENTS, job.version(EVENTS), "known_at")
    as_of = datetime.combine(job.recipe.as_of, time.min, ZoneInfo(job.recipe.business_timezone))
    if newest is not None and newest >= as_of:
        job.warn(f"events are published that became known up to {newest:%Y-%m-%d}, after as_of {job.recipe.as_of}")


def require_outcome_events(job: Job, timelines: DataFrame, mapping: SourceMapping) -> None:
    """Checks that the event types which labels are made of occur.

    Args:
        job: the step.
        timelines: user_timelines of the source, which the labels read as well.
        mapping: defines the outcome and closing event types.

    Raises:
        DataError: none of the mapping's ``outcome_events`` occurs in the events of the source.
    """
    types = timelines.select(F.explode(F.array_distinct("timeline.event.event_type")).alias("event_type"))
    found = {row["event_type"] for row in types.distinct().collect()}
    never = sorted({*mapping.outcome_events, *mapping.closing_events} - found)
    if not found & set(mapping.outcome_events):
        raise DataError(
            f"source {mapping.name}: none of outcome_events {', '.join(mapping.outcome_events)} occurs; the events "
            f"have the types {', '.join(sorted(found))}",
            action="correct outcome_events in the mapping, or the event types that its SQL gives",
        )
    if never:
        job.warn(f"source {mapping.name}: event types {', '.join(never)} of the mapping never occur")


def require_both_classes(job: Job, labels: DataFrame) -> None:
    """Checks that each split which training and evaluation need will have good and bad clients.

    Where the run does not go on to train, as every night, a missing class is a warning.

    Args:
        job: the step.
        labels: rows of performance_labels.

    Raises:
        DataError: a split has no mature label of a class; the message names both.
    """
    recipe = job.recipe
    if recipe.split.unit != "user_id" or job.dates.bounded:
        return  # labels do not know the wider unit, and a range is not the whole: build_dataset checks the members
    horizon = recipe.labels.horizons[0]
    as_of = F.to_utc_timestamp(F.lit(recipe.as_of.isoformat()), recipe.business_timezone)
    usable = labels.where(
        (F.col("window_months") == horizon.window_months)
        & (F.col("dpd_threshold") == horizon.dpd_threshold)
        & (F.col("matured_at") <= as_of)
        & (F.col("outcome") != "indeterminate")
    )
    counted = usable.groupBy(split_column(recipe).alias("split"), "outcome").count().collect()
    counts = {(row["split"], row["outcome"]): row["count"] for row in counted}
    faults = one_class_splits(counts, recipe)
    if faults and job.trains:
        raise DataError(
            f"labels as of {recipe.as_of}: {'; '.join(faults)}: a model needs both classes in each",
            action="choose other observation dates, as_of or labels.horizons, or look for arrears in the events",
        )
    if faults:
        job.warn(f"labels as of {recipe.as_of}: {'; '.join(faults)}")
