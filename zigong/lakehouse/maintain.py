"""Maintenance of the Delta tables: compacts small files and removes files that no kept version needs.

A kept run can be replayed: files of a version that its manifest pins are never removed, at any age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from schemas.contracts import table_contract, table_names
from zigong.errors import ConfigError, ConflictError
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staging import Leftover, leftovers, remove_leftover

HasEnded = Callable[[Leftover], bool]
VACUUM_RETENTION_HOURS = 168  # a week: longer than any job reads
UNKNOWN_FILES_HOURS = 24  # a file no version names may belong to a commit that is being made: longer than any write


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """The result of maintaining one table.

    Attributes:
        files_before: number of files of the newest version.
        files_after: the same after compaction; equal in a dry run.
        removed: files that were removed, or would be.
        expired: rows past the retention of their contract that were deleted; 0 in a dry run.
        pinned: versions that kept runs pin.
        version: newest version afterwards.
    """

    table: str
    files_before: int
    files_after: int
    removed: int
    expired: int
    pinned: tuple[int, ...]
    version: int


def pins(manifests: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, tuple[int, ...]]:
    """The versions of each table that run manifests pin, sorted."""
    found: dict[str, set[int]] = {}
    for manifest in manifests:
        for table, version in manifest["tables"].items():
            found.setdefault(table, set()).add(version)
    return {table: tuple(sorted(versions)) for table, versions in found.items()}


def long_ago(leftover: Leftover) -> bool:
    """Whether files were staged so long ago that nobody can be about to commit them."""
    return datetime.now(UTC) - leftover.newest > timedelta(hours=UNKNOWN_FILES_HOURS)


def maintain(
    paths: LakehousePaths,
    table: str,
    pinned: tuple[int, ...],
    *,
    retain_hours: int = VACUUM_RETENTION_HOURS,
    dry_run: bool,
    has_ended: HasEnded = long_ago,
) -> Upkeep:
    """Deletes expired rows, compacts a table and removes files needed by neither its newest nor a pinned version.

    Args:
        pinned: versions whose files are always kept.
        retain_hours: files of former versions that were replaced later than this are kept, since a job may still read
            them. Files that no version names are never removed before they are ``UNKNOWN_FILES_HOURS`` old.
        dry_run: only count.
        has_ended: whether the attempt that staged files can commit them no more.

    Raises:
        ConfigError: ``retain_hours`` is negative.
        ConflictError: another writer changed the files that were being compacted.
    """
    if retain_hours < 0:
        raise ConfigError(f"--retain-hours {retain_hours} is negative", action="give hours from 0 on")
    opened = DeltaTable(paths.table(table))
    before = len(opened.file_uris())
    expired = 0
    if not dry_run:
        expired = _delete_expired(opened, table)
        _compact(opened, table)
    given_up, working = _staged(paths, table, has_ended, dry_run=dry_run)
    removed = _remove_files(opened, pinned, retain_hours, dry_run=dry_run, unknown=not working)
    opened.update_incremental()
    return Upkeep(
        table=table,
        files_before=before,
        files_after=len(opened.file_uris()),
        removed=len(removed) + given_up,
        expired=expired,
        pinned=pinned,
        version=int(opened.version()),
    )


def _staged(paths: LakehousePaths, table: str, has_ended: HasEnded, *, dry_run: bool) -> tuple[int, int]:
    """Removes what ended attempts have left staged; returns the numbers of those files and of attempts that work."""
    found = leftovers(paths, table)
    ended = [leftover for leftover in found if has_ended(leftover)]
    for leftover in ended if not dry_run else ():
        remove_leftover(paths, table, leftover)
    return sum(leftover.files for leftover in ended), len(found) - len(ended)


def _remove_files(
    opened: DeltaTable, pinned: tuple[int, ...], retain_hours: int, *, dry_run: bool, unknown: bool
) -> set[str]:
    """Removes files that a version of the log has replaced, and, if ``unknown``, those that no version names."""
    removed: set[str] = set()
    passes = [(False, retain_hours), *([(True, max(retain_hours, UNKNOWN_FILES_HOURS))] if unknown else [])]
    for full, hours in passes:
        removed |= set(
            opened.vacuum(
                retention_hours=hours,
                dry_run=dry_run,
                enforce_retention_duration=False,
                full=full,
                keep_versions=list(pinned),
            )
        )
        opened.update_incremental()
    return removed


def _delete_expired(opened: DeltaTable, table: str) -> int:
    """Deletes the rows older than the retention of the contract; returns how many."""
    retention = table_contract(table).retention if table in table_names() else None
    if retention is None:
        return 0
    limit = datetime.now(UTC) - timedelta(days=retention.days)
    done = opened.delete(f"{retention.column} < '{limit:%Y-%m-%dT%H:%M:%SZ}'")
    return int(done.get("num_deleted_rows") or 0)


def _compact(opened: DeltaTable, table: str) -> None:
    try:
        opened.optimize.compact()
    except CommitFailedError as error:
        raise ConflictError(
            f"table {table}: another writer changed the files that were being compacted: {error}",
            action="run zigong maintain again when that writer has ended",
        ) from error
