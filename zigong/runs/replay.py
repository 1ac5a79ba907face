"""Publishes quarantined rows after a rule or a source was fixed: only those rows, each once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.contracts import table_contract, table_names
from zigong.behavior.sources.faults import stop_recording, values_withheld
from zigong.console import LOG
from zigong.errors import ConfigError, DataError
from zigong.files.atomic import write_json
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.lineage import Partition
from zigong.lakehouse.replayed import mark_replayed, repeated_rows, unreplayed_rows
from zigong.lakehouse.tables import latest_version, open_pinned
from zigong.quality.quarantine import ENTERS, Return, returning
from zigong.runs.job import Job

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from schemas.contracts import TableContract

STEP, CORRECTIONS = "replay_quarantine", "corrections.json"


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The result of a replay.

    Attributes:
        counts: quarantined rows by result, see ``quality.quarantine.Return``.
        version: newest version of the table.
    """

    counts: Mapping[str, int]
    version: int


def replay(job: Job, table: str, refused_by: str, corrections: Mapping[str, str], *, dry_run: bool) -> Replayed:
    """Publishes the quarantined rows of a table and run that pass the current rules.

    The partitions they belong to are replaced completely: the published rows and the replayed ones, through the same
    audit as any publish. The commit is made only if the published rows are unchanged. A stop between that commit and
    the mark in quarantine is harmless: the next replay finds the rows published and only marks them.

    Args:
        job: of a separate run, which the commit and the quarantined rows will name.
        refused_by: run that rejected the rows.
        corrections: column to Spark SQL over the columns of the row.
        dry_run: only count.

    Raises:
        ConfigError: the table has no contract, its quarantine holds raw rows, or a correction is for an unknown column.
        DataError: quarantine has no rows of that table and run.
    """
    contract = _replayable(table, corrections)
    version = latest_version(job.paths, table)
    published = open_pinned(job.spark, job.paths, table, version)
    refused = unreplayed_rows(job.spark, job.paths, table, refused_by)
    if not refused.head(1):
        raise DataError(
            f"quarantine has no row of table {table} and run {refused_by}",
            action="`zigong quarantine ls` lists what it holds",
        )
    stop_recording(job.spark)
    with values_withheld(f"quarantine of {table}"):
        found = returning(refused, published, contract, corrections)
        if dry_run:
            return Replayed(counts=found.counts, version=version)
        write_json(job.run.folder / CORRECTIONS, {"table": table, "corrections": dict(corrections)})
        if found.counts[ENTERS]:
            version = _publish(job, contract, published, version, found)
        mark_replayed(job.spark, job.paths, table, refused_by, found.settled, by=job.run.run_id)
    return Replayed(counts=found.counts, version=version)


def repeat_replays(job: Job, table: str) -> None:
    """Publishes rows again that an earlier replay published and that this run's delivery brought and had refused.

    A delivery without dates replaces all rows of its source, and with them those that somebody had corrected.
    """
    contract = table_contract(table)
    for replayed_by, rows in repeated_rows(job.spark, job.paths, table, job.run.run_id).items():
        file = job.run.folder.parent / replayed_by / CORRECTIONS
        if not file.is_file():
            job.warn(f"table {table}: rows that {replayed_by} had corrected were refused again, and it is gone")
            continue
        version = latest_version(job.paths, table)
        published = open_pinned(job.spark, job.paths, table, version)
        corrections = json.loads(file.read_text(encoding="utf-8"))["corrections"]
        found = returning(rows, published, contract, corrections)
        LOG.info("replay repeated", extra={"fields": {"table": table, "replay": replayed_by, **found.counts}})
        if found.counts[ENTERS]:
            _publish(job, contract, published, version, found, counted=False)


def _replayable(table: str, corrections: Mapping[str, str]) -> TableContract:
    if table.startswith("raw_"):
        raise ConfigError(
            f"{table} holds raw rows, of which quarantine keeps only pseudonyms and the shapes of broken fields",
            action="correct the mapping or have the file delivered again, then run ingest_events for the same known "
            "dates: it adds what was missing",
        )
    if table not in table_names():
        raise ConfigError(f"no table {table!r}", action=f"use one of {', '.join(table_names())}")
    contract = table_contract(table)
    unknown = sorted(set(corrections) - set(contract.column_names))
    if unknown:
        raise ConfigError(
            f"table {table} has no column {', '.join(unknown)}", action=f"use {', '.join(contract.column_names)}"
        )
    return contract


def _publish(
    job: Job, contract: TableContract, published: DataFrame, version: int, found: Return, *, counted: bool = True
) -> int:
    cells, partitions = _touched(found.entering, contract)
    rows = published.where(cells).select(*contract.column_names).unionByName(found.entering)
    basis = Basis(table=contract.name, version=version, partitions=partitions)
    return job.publish(contract.name, rows, cells=cells, basis=basis, counted=counted)


def _touched(entering: DataFrame, contract: TableContract) -> tuple[str, frozenset[Partition]]:
    """The partitions of the replayed rows, as a predicate and as in the log."""
    if not contract.partitions:
        return "true", frozenset({Partition.of()})
    types = {column.name: column.type for column in contract.columns}
    found = [row.asDict() for row in entering.select(*contract.partitions).distinct().collect()]
    cells = [" AND ".join(f"{name} = CAST('{value}' AS {types[name]})" for name, value in row.items()) for row in found]
    return " OR ".join(f"({cell})" for cell in sorted(cells)), frozenset(Partition.of(**row) for row in found)
