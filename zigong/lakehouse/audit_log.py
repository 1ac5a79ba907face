"""The table audit_log: who published what under which verdict; append-only, without duplicates.

An append commits exactly the version after the one whose head it continues, so of two concurrent writers one loses
and reads again: the chain cannot fork.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, write_deltalake

from schemas.contracts import table_contract
from zigong.lakehouse.audit_chain import Entry, Fact, head_of, linked
from zigong.lakehouse.commits import create_if_missing, make_commit, metadata_text
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version

AUDIT_LOG = "audit_log"
# All runs of a lakehouse append to this one table. A lost race means that another append succeeded, so retries end.
APPEND_ATTEMPTS = 50


def log_publish(paths: LakehousePaths, outcome: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> None:
    """Logs the outcome of a publish, and earlier commits of its run in the table that were not logged due to a kill.

    Args:
        outcome: the fields of ``published.Published``.
        own: those commits, newest first, as ``commits.own_commits`` returns them.
    """
    table_id = delta_id(paths, outcome["table"])
    known = own if outcome["verdict"] == "passed" else []
    facts = [publish_fact(commit, table_id) for commit in reversed(known) if commit.get("verdict") == "passed"]
    latest = publish_fact(outcome, table_id)
    append_facts(paths, [*facts, *([latest] if latest not in facts else [])])


def publish_fact(outcome: Mapping[str, Any], table_id: str) -> Fact:
    """The fact of a publish outcome, given as its fields or as the userMetadata of its commit."""
    passed = outcome["verdict"] == "passed"
    return Fact(
        action="published" if passed else "blocked",
        run_id=outcome["run_id"],
        step=outcome["step"],
        table_name=outcome["table"],
        table_id=table_id,
        cells=outcome["cells"],
        version=outcome["version"] if passed else None,
        verdict=outcome["verdict"],
        rows_in=outcome["rows_in"],
        rows_published=outcome["published"],
        rows_quarantined=outcome["quarantined"],
        rows_dropped=sum(outcome["dropped"].values()),
        rules_version=outcome.get("rules_version") or None,
    )


def append_facts(paths: LakehousePaths, facts: Sequence[Fact]) -> None:
    """Adds the facts that are not in the log yet, in one commit.

    Raises:
        ConflictError: other writers kept winning.
    """
    create_if_missing(paths, table_contract(AUDIT_LOG), append_only=True)

    def write() -> None:
        opened = DeltaTable(paths.table(AUDIT_LOG))
        of_runs = ds.field("run_id").isin(sorted({fact.run_id for fact in facts}))
        known = {entry.fact for entry in entries_at(paths, opened.version(), where=of_runs)}
        new = [fact for fact in facts if fact not in known]
        if new:
            newest = _newest_entries(paths, opened)
            _commit(opened, linked(head_of(newest), new, at=datetime.now(UTC), actor=actor()))

    make_commit(write, table=AUDIT_LOG, cells="the next seq", attempts=APPEND_ATTEMPTS)


def audit_entries(paths: LakehousePaths) -> list[Entry]:
    """Every entry of the newest version, sorted by seq.

    Raises:
        DataError: the log does not exist yet.
    """
    return entries_at(paths, latest_version(paths, AUDIT_LOG))


def entries_at(paths: LakehousePaths, version: int, *, where: ds.Expression | None = None) -> list[Entry]:
    """The entries of a version, optionally filtered by ``where``, sorted by seq."""
    names = table_contract(AUDIT_LOG).column_names
    rows = arrow_pinned(paths, AUDIT_LOG, version, columns=names, where=where).sort_by("seq").to_pylist()
    return [Entry(**row) for row in rows]


def _newest_entries(paths: LakehousePaths, opened: DeltaTable) -> list[Entry]:
    """The entry with the highest seq, located by the Delta statistics so that only one file is read."""
    highest = pa.table(opened.get_add_actions(flatten=True))["max.seq"] if opened.file_uris() else None
    if highest is None or highest.null_count:
        return entries_at(paths, opened.version())
    return entries_at(paths, opened.version(), where=ds.field("seq") == pc.max(highest).as_py())


def delta_id(paths: LakehousePaths, table: str) -> str:
    """Delta's own id of a table; a table that is deleted and created again gets another one."""
    return str(DeltaTable(paths.table(table)).metadata().id)


def actor() -> str:
    """The account the step runs under: ZIGONG_ACTOR, else the user of the operating system."""
    named = os.environ.get("ZIGONG_ACTOR", "").strip()
    if named:
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a uid without a name
        return f"uid {os.getuid()}"


def _commit(opened: DeltaTable, entries: Sequence[Entry]) -> None:
    """Commits exactly the version after ``opened`` or fails: with retries delta-rs would accept commits in between."""
    schema = pa.schema(opened.schema().to_arrow())
    metadata = {"run_id": entries[-1].run_id, "head": str(head_of(entries))}
    write_deltalake(
        opened,
        pa.Table.from_pylist([asdict(entry) for entry in entries], schema=schema),
        mode="append",
        commit_properties=CommitProperties(
            custom_metadata={"userMetadata": metadata_text(metadata)}, max_commit_retries=0
        ),
    )
