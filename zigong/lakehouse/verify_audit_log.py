"""Verifies the audit log: its own chain, the Delta logs of the published tables, and a head stored elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from deltalake import DeltaTable

from zigong.lakehouse.audit_chain import Break, Entry, Head, chain_break, head_break, head_of
from zigong.lakehouse.audit_log import audit_entries, delta_id, publish_fact
from zigong.lakehouse.commits import commit_metadata
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import published_tables


@dataclass(frozen=True, kw_only=True)
class TableLog:
    """The available Delta log of a table.

    Attributes:
        table_id: Delta's id of the table.
        commits: by version, the userMetadata of every commit, with ``version`` and ``committed_at``.
    """

    table_id: str
    commits: dict[int, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class AuditLogVerification:
    """The result of a verification.

    Attributes:
        head: the newest entry.
        matched: number of published entries that agree with their commit.
        unavailable: published entries whose commit is no longer in the Delta log, or whose table was deleted since.
        before: number of commits of runs that are older than the first entry.
        broken: the first contradiction, None if there is none.
    """

    head: Head
    matched: int = 0
    unavailable: int = 0
    before: int = 0
    broken: Break | None = None


def verify_audit_log(paths: LakehousePaths, expected: Head | None = None) -> AuditLogVerification:
    """Recomputes the chain, then compares its published entries with the commits, in both directions.

    Args:
        expected: a head that was printed and stored earlier; the log may have grown since.

    Raises:
        DataError: the log does not exist yet.
    """
    entries = audit_entries(paths)
    head = head_of(entries)
    broken = chain_break(entries) or (head_break(entries, expected) if expected is not None else None)
    if broken is not None:
        return AuditLogVerification(head=head, broken=broken)
    logs = {table: table_log(paths, table) for table in published_tables(paths)}
    published = [entry for entry in entries if entry.action == "published"]
    held = [entry for entry in published if _is_held(entry, logs)]
    early, late = _unlogged(published, logs, entries[0].at if entries else datetime.now(UTC))
    broken = next(_contradictions(held, logs), None) or next(iter(late), None)
    unavailable = len(published) - len(held)
    return AuditLogVerification(head=head, matched=len(held), unavailable=unavailable, before=early, broken=broken)


def table_log(paths: LakehousePaths, table: str) -> TableLog:
    """The commits of a table that are still in its Delta log."""
    commits = {}
    for entry in DeltaTable(paths.table(table)).history():
        committed = datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)
        commits[entry["version"]] = {
            **commit_metadata(entry),
            "version": entry["version"],
            "committed_at": committed,
        }
    return TableLog(table_id=delta_id(paths, table), commits=commits)


def _is_held(entry: Entry, logs: dict[str, TableLog]) -> bool:
    """Whether the Delta log of the same table still reaches back to the version of the entry."""
    log = logs.get(entry.table_name)
    return log is not None and log.table_id == entry.table_id and (entry.version or 0) >= min(log.commits)


def _contradictions(entries: Sequence[Entry], logs: dict[str, TableLog]) -> Iterator[Break]:
    """Published entries whose commit is missing or differs, by seq."""
    for entry in entries:
        log = logs[entry.table_name]
        commit = log.commits.get(entry.version or 0)
        place = f"entry {entry.seq}: table {entry.table_name}, version {entry.version}"
        if commit is None:
            yield Break(place=place, expected=f"a commit of run {entry.run_id}", found=f"none up to {max(log.commits)}")
        elif not entry.rows_published and commit.get("run_id") != entry.run_id:
            continue  # Delta makes no commit where no row is replaced by none: the version is an earlier one
        elif commit.get("run_id") != entry.run_id or commit.get("verdict") != "passed":
            found = f"run {commit.get('run_id')}, verdict {commit.get('verdict')}"
            yield Break(place=place, expected=f"a commit of run {entry.run_id}, verdict passed", found=found)
        else:
            yield from _differences(entry, commit, log, place)


def _differences(entry: Entry, commit: dict[str, Any], log: TableLog, place: str) -> Iterator[Break]:
    found = asdict(entry.fact)
    for name, value in asdict(publish_fact(commit, log.table_id)).items():
        if found[name] != value:
            yield Break(place=f"{place}: {name}", expected=f"{value}, as in the commit", found=str(found[name]))


def _unlogged(published: Sequence[Entry], logs: dict[str, TableLog], since: datetime) -> tuple[int, list[Break]]:
    """Commits of runs without an entry: the number older than the log, and the later ones."""
    known = {(entry.table_id, entry.version) for entry in published}
    early, late = 0, []
    for table, log in sorted(logs.items()):
        for version, commit in sorted(log.commits.items()):
            if commit.get("verdict") != "passed" or (log.table_id, version) in known:
                continue
            if commit["committed_at"] < since:
                early += 1
                continue
            place = f"table {table}, version {version}"
            late.append(Break(place=place, expected=f"an entry of run {commit['run_id']}", found="none in the log"))
    return early, late
