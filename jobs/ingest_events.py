"""Reads raw files through a source mapping: landing files -> behavior_events, user_profiles."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.mappings import load_mapping
from zigong.behavior.ingest import deduplicated, events_from, profiles_from, read_raw, rejected_rows
from zigong.behavior.landing import landing_folder
from zigong.job import Job, main


def ingest_events(job: Job) -> None:
    """Replaces exactly the source's known_date partitions of the range, or all of them; a night may bring nothing."""
    recipe, dates = job.recipe, job.dates
    mapping = load_mapping(recipe.source.mapping)
    key, timezone = job.user_key(mapping.data), recipe.business_timezone
    raw = read_raw(job.spark, mapping, landing_folder(job.spark, recipe, job.paths))
    rejected = rejected_rows(raw, mapping, key=key)
    job.quarantine(
        f"raw_{mapping.name}",
        rejected,
        rows_in=sum(cells.count() for cells in raw.cells.values()),
        rules_version=mapping.digest,
    )
    events = events_from(
        job.spark,
        raw,
        mapping,
        key=key,
        buckets=recipe.lakehouse.user_buckets,
        timezone=timezone,
        from_date=dates.first,
        to_date=dates.end,
    )
    profiles = profiles_from(job.spark, raw, mapping, key=key, timezone=timezone)
    ours = f"source = '{mapping.name}'"
    night = f"{ours} AND {dates.predicate('known_date')}"
    publish_versions(job, "behavior_events", events, night, may_be_empty=dates.bounded)
    publish_versions(job, "user_profiles", profiles, ours)


def publish_versions(job: Job, table: str, rows: DataFrame, cells: str, *, may_be_empty: bool = False) -> None:
    """Publishes one row per key; repetitions are dropped and counted, contradictions go to quarantine."""
    versions = deduplicated(rows, table=table)
    dropped = {"duplicate": versions.duplicates.count()}
    conflicting = versions.conflicting.select(
        F.array(F.lit("conflicting_version")).alias("reasons"), F.to_json(F.struct("*")).alias("payload")
    )
    job.publish(table, versions.kept, cells=cells, rejected=conflicting, dropped=dropped, may_be_empty=may_be_empty)


if __name__ == "__main__":
    main("ingest_events", ingest_events)
