"""Reads raw files through a source mapping: landing files -> behavior_events, user_profiles, deliveries."""

from functools import partial

from zigong.behavior.sources.delivery import delivered_tables, refused_raw, unread_columns
from zigong.behavior.sources.faults import raw_faults
from zigong.behavior.sources.landing import landing_folder
from zigong.behavior.sources.listing import unread_files
from zigong.behavior.sources.raw import read_raw
from zigong.behavior.sources.row_order import order_dependent
from zigong.behavior.sources.sql_findings import require_few_emptied
from zigong.behavior.sources.zones import local_columns, refuse_offsets
from zigong.lakehouse.deliveries import deliveries_of
from zigong.recipe.source import source_mapping
from zigong.runs.handover import UnreadColumns, UnreadFiles
from zigong.runs.ingested import (
    arrived,
    leave_missing_profiles,
    night_of,
    publish_delivered,
    quarantine_raw,
    record_ingested,
    require_all_readable,
    standing_rows,
    warn_of,
    warn_of_shared_keys,
)
from zigong.runs.job import Job
from zigong.runs.known_dates import cover_missing_nights, newest_dates, record_ingest
from zigong.runs.launch import main


def ingest_events(job: Job) -> None:
    """Adds the versions of the dates to the published ones; without dates, replaces all that the source has."""
    mapping = source_mapping(job.recipe)
    cover_missing_nights(job, mapping.name)
    require_all_readable(job)
    folder = landing_folder(job.spark, job.recipe, job.paths)
    earlier = deliveries_of(job.paths, mapping.name)
    files, night = arrived(job, mapping, folder, earlier), night_of(job, mapping, earlier)
    with raw_faults(job.spark, mapping, folder):
        raw = read_raw(job.spark, mapping, folder, files.read if files else None)
        raw = refuse_offsets(raw, mapping, local_columns(job.spark, raw, mapping))
        job.leave(UnreadFiles(unread_files=unread_files(mapping, folder)))
        job.leave(UnreadColumns(unread_columns=unread_columns(raw)))
        # Before anything is kept: SQL that makes a key of a column that is no declared identifier is refused here.
        warn_of(job, order_dependent(job.spark, raw, mapping, job.recipe.business_timezone))
        quarantine_raw(job, mapping, refused_raw(raw, mapping, job.recipe, job.tombstones()))
        emptied = require_few_emptied(job.spark, raw, mapping, job.recipe.business_timezone)
        job.run.add_metrics({"texts.emptied_by_the_sql": emptied})
        standing = partial(standing_rows, job)
        tables = delivered_tables(job.spark, raw, mapping, job.recipe, job.tombstones(), night, standing)
        (events, found), _ = [(rows, publish_delivered(job, rows)) for rows in tables]
    warn_of_shared_keys(job, mapping.name, events.kept)
    leave_missing_profiles(job, events.kept)
    newest = newest_dates(job, mapping.name)
    record_ingested(job, mapping, night, found, files, newest)
    record_ingest(job, mapping.name, newest)


if __name__ == "__main__":
    main("ingest_events", ingest_events)
