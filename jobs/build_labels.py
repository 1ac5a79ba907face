"""Chooses the clients to observe and labels them: behavior_events -> observation_points, performance_labels."""

from pyspark.sql import DataFrame

from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points, require_loans
from zigong.incremental.state import known_timelines
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.lineage import Partition
from zigong.recipe.population import label_settings_of
from zigong.recipe.source import outcome_source, source_mapping
from zigong.runs.dates import ObservationDates
from zigong.runs.job import Job
from zigong.runs.known_dates import require_ingested
from zigong.runs.labelling import (
    due_labels,
    label_predicate,
    require_both_classes,
    require_outcome_events,
    warn_of_later_events,
)
from zigong.runs.launch import main


def build_labels(job: Job) -> None:
    """All observation points, with the reason of every excluded one, and the labels of the eligible ones."""
    recipe, dates = job.recipe, job.observation_dates()
    mapping = source_mapping(recipe)
    require_ingested(job, mapping.name)
    warn_of_later_events(job)
    timelines = known_timelines(job)
    require_outcome_events(job, timelines, mapping)
    if recipe.observations.unit == "loan":
        require_loans(timelines, mapping)
    points = observation_points(
        timelines,
        dates=dates.days,
        timezone=recipe.business_timezone,
        cohort=recipe.observations.cohort,
        mapping=mapping,
        unit=recipe.observations.unit,
        population=dates.population,
        source=outcome_source(recipe),
    )
    version = job.publish("observation_points", points, cells=dates.predicate)
    labels = due_labels(job, dates)
    if labels.version is not None and not labels.due.days:
        job.keep("performance_labels", labels.version)
    else:
        _publish_labels(job, timelines, labels.due, version)
    require_both_classes(job, job.read("performance_labels").where(label_predicate(recipe, dates)))


def _publish_labels(job: Job, timelines: DataFrame, dates: ObservationDates, points_version: int) -> None:
    """Publishes the labels of the points of some dates."""
    recipe = job.recipe
    labels = performance_labels(
        timelines,
        job.read("observation_points").where(dates.predicate),
        horizons=recipe.labels.horizons,
        reporting_lag_days=recipe.labels.reporting_lag_days,
        as_of_date=recipe.as_of,
        timezone=recipe.business_timezone,
        mapping=source_mapping(recipe),
        label_settings=label_settings_of(recipe),
        source=outcome_source(recipe),
    )
    # Of two concurrent runs, only the one whose points are still published may publish labels for them.
    partitions = frozenset(Partition.of(population=dates.population, observation_date=day) for day in dates.days)
    basis = Basis(table="observation_points", version=points_version, partitions=partitions)
    job.publish("performance_labels", labels, cells=label_predicate(recipe, dates), basis=basis)


if __name__ == "__main__":
    main("build_labels", build_labels)
