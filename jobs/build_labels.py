"""Chooses the clients to observe and labels them: behavior_events -> observation_points, performance_labels."""

from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points, require_loans
from zigong.incremental.state import known_timelines
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.lineage import Partition
from zigong.recipe.population import label_settings_of
from zigong.recipe.source import source_mapping
from zigong.runs.job import Job
from zigong.runs.launch import main


def build_labels(job: Job) -> None:
    """All observation points, with the reason of every excluded one, and the labels of the eligible ones."""
    recipe, dates = job.recipe, job.observation_dates()
    mapping, settings = source_mapping(recipe), label_settings_of(recipe)
    timelines = known_timelines(job)
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
    )
    version = job.publish("observation_points", points, cells=dates.predicate)
    labels = performance_labels(
        timelines,
        job.read("observation_points").where(dates.predicate),
        horizons=recipe.labels.horizons,
        reporting_lag_days=recipe.labels.reporting_lag_days,
        as_of_date=recipe.as_of,
        timezone=recipe.business_timezone,
        mapping=mapping,
        label_settings=settings,
    )
    # Of two concurrent runs, only the one whose points are still published may publish labels for them.
    partitions = frozenset(Partition.of(population=dates.population, observation_date=day) for day in dates.days)
    basis = Basis(table="observation_points", version=version, partitions=partitions)
    cells = f"label_settings = '{settings}' AND {dates.predicate}"
    job.publish("performance_labels", labels, cells=cells, basis=basis)


if __name__ == "__main__":
    main("build_labels", build_labels)
