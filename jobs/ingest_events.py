"""Reads raw files through a source mapping: landing files -> behavior_events, user_profiles."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.behavior.sources.faults import raw_faults
from zigong.behavior.sources.ingest import (
    counted_rows,
    deduplicated,
    events_from,
    profiles_from,
    read_raw,
    rejected_rows,
    rejected_without_erased,
    without_erased,
)
from zigong.behavior.sources.landing import landing_folder
from zigong.errors import DataError
from zigong.lakehouse.row_text import EXACT
from zigong.recipe.source import lakehouse_key, source_mapping
from zigong.runs.job import Job
from zigong.runs.launch import main


def ingest_events(job: Job) -> None:
    """Replaces exactly the source's known_date partitions of the range, or all of them; a night may bring nothing."""
    mapping = source_mapping(job.recipe)
    folder = landing_folder(job.spark, job.recipe, job.paths)
    with raw_faults(job.spark, mapping, folder):
        publish_source(job, mapping, folder)


def publish_source(job: Job, mapping: SourceMapping, folder: str) -> None:
    """Raw rows that do not fit the mapping go to quarantine; the others become events and profiles."""
    recipe, dates = job.recipe, job.dates
    key, timezone = lakehouse_key(recipe), recipe.business_timezone
    raw = read_raw(job.spark, mapping, folder)
    unread = [f"{name}: {', '.join(columns)}" for name, columns in raw.unread.items() if columns]
    if unread:
        job.run.note(unread_columns="; ".join(unread))
    rows_in, refused = counted_rows(raw)
    rejected = rejected_without_erased(rejected_rows(raw, mapping, key=key), job.tombstones() if refused else None)
    job.quarantine(
        f"raw_{mapping.name}",
        rejected.kept,
        refused=refused - rejected.erased,
        rows_in=rows_in,
        rules_version=mapping.digest,
        dropped=losses(erased=rejected.erased),
    )
    require_few_refused(mapping, refused, rows_in)
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
    note_users_without_profile(job, night)


def note_users_without_profile(job: Job, night: str) -> None:
    """Tells how many users of the events no profile is known of; their sequences say so by an empty one."""
    users = job.read("behavior_events").where(night).select("user_id").distinct()
    known = job.read("user_profiles").select("user_id", F.lit(True).alias("known")).distinct()
    (row,) = (
        users.join(known, "user_id", "left").agg(F.count("*").alias("all"), F.count("known").alias("known")).collect()
    )
    if row["known"] < row["all"]:
        job.run.note(users_without_profile=f"{row['all'] - row['known']:,} of {row['all']:,}")
    job.run.add_metrics({"users.of_events": row["all"], "users.without_profile": row["all"] - row["known"]})


def publish_versions(job: Job, table: str, rows: DataFrame, cells: str, *, may_be_empty: bool = False) -> None:
    """Publishes one row per key; repetitions and erased users are dropped, contradictions go to quarantine."""
    versions, tombstones = deduplicated(rows, table=table), job.tombstones()
    kept, doubled, conflicting = (
        without_erased(part, tombstones) for part in (versions.kept, versions.duplicates, versions.conflicting)
    )
    erased = kept.erased + doubled.erased + conflicting.erased
    refused = conflicting.kept.select(
        F.array(F.lit("conflicting_version")).alias("reasons"), F.to_json(F.struct("*"), EXACT).alias("payload")
    )
    dropped = {"duplicate": doubled.kept.count(), **losses(erased=erased)}
    job.publish(table, kept.kept, cells=cells, rejected=refused, dropped=dropped, may_be_empty=may_be_empty)


def require_few_refused(mapping: SourceMapping, refused: int, rows_in: int) -> None:
    """The rate breaker of raw rows: so many bad ones are a broken delivery or a broken mapping.

    Raises:
        DataError: more than the mapping's share of the rows do not fit.
    """
    if refused > mapping.max_refused_share * rows_in:
        raise DataError(
            f"source {mapping.name}: {refused:,} of {rows_in:,} raw rows do not fit the mapping, which allows a share "
            f"of {mapping.max_refused_share:g}; nothing was published",
            action="`zigong quarantine ls` shows the reasons; have the files delivered again, correct the mapping, or "
            "set max_refused_share there",
        )


def losses(**counts: int) -> dict[str, int]:
    """Rows left out by reason, without the reasons that met nobody."""
    return {reason: rows for reason, rows in counts.items() if rows}


if __name__ == "__main__":
    main("ingest_events", ingest_events)
