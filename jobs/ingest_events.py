"""Reads raw files through a source mapping: landing files -> behavior_events, user_profiles."""

from schemas.mappings import SourceMapping
from zigong.behavior.sources.delivery import (
    delivered_tables,
    profiled_users,
    refused_raw,
    require_few_refused,
    unread_columns,
)
from zigong.behavior.sources.faults import raw_faults
from zigong.behavior.sources.landing import landing_folder
from zigong.behavior.sources.listing import unread_files
from zigong.behavior.sources.raw import RawTables, read_raw
from zigong.lakehouse.lost_files import require_readable
from zigong.recipe.source import source_mapping
from zigong.runs.handover import MissingProfiles, UnreadColumns, UnreadFiles
from zigong.runs.job import Job
from zigong.runs.known_dates import cover_missing_nights, record_ingest
from zigong.runs.launch import main
from zigong.runs.replay import repeat_replays


def ingest_events(job: Job) -> None:
    """Replaces exactly the source's known_date partitions of the range, or all; a night may be without events."""
    mapping = source_mapping(job.recipe)
    cover_missing_nights(job, mapping.name)
    for table in ("behavior_events", "user_profiles"):
        lost = require_readable(job.paths, table, replaced=not job.dates.bounded, run_id=job.run.run_id)
        if lost:
            job.warn(lost)
    folder = landing_folder(job.spark, job.recipe, job.paths)
    with raw_faults(job.spark, mapping, folder):
        raw = read_raw(job.spark, mapping, folder)
        job.leave(UnreadFiles(unread_files=unread_files(mapping, folder)))
        job.leave(UnreadColumns(unread_columns=unread_columns(raw)))
        _quarantine(job, mapping, raw)
        _publish(job, mapping, raw)


def _quarantine(job: Job, mapping: SourceMapping, raw: RawTables) -> None:
    """Quarantines raw rows that do not fit the mapping; too many of them end the step."""
    found = refused_raw(raw, mapping, job.recipe, job.tombstones())
    job.quarantine(
        f"raw_{mapping.name}",
        found.rows,
        refused=found.refused - found.erased,
        rows_in=found.rows_in,
        rules_version=mapping.digest,
        dropped=found.dropped,
    )
    require_few_refused(mapping, found)


def _publish(job: Job, mapping: SourceMapping, raw: RawTables) -> None:
    """Publishes the valid rows, and records how many users of the events have no profile."""
    ours = f"source = '{mapping.name}'"
    night = f"{ours} AND {job.dates.predicate('known_date')}"
    tables = delivered_tables(
        job.spark,
        raw,
        mapping,
        job.recipe,
        job.tombstones(),
        from_date=job.dates.first,
        to_date=job.dates.end,
    )
    for rows in tables:
        events = rows.table == "behavior_events"
        job.publish(
            rows.table,
            rows.kept,
            cells=night if events else ours,
            rejected=rows.refused,
            dropped=rows.dropped,
            may_be_empty=events and job.dates.bounded,
        )
        if job.tables[rows.table]["quarantined"]:
            repeat_replays(job, rows.table)
    found = profiled_users(job.read("behavior_events").where(night), job.read("user_profiles"))
    missing = f"{found.without_profile:,} of {found.users:,}" if found.without_profile else None
    job.leave(MissingProfiles(users_without_profile=missing))
    job.run.add_metrics({"users.of_events": found.users, "users.without_profile": found.without_profile})
    record_ingest(job, mapping.name)


if __name__ == "__main__":
    main("ingest_events", ingest_events)
