"""Files that a version of a table names and that do not exist: after each commit, and before a table is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from pyarrow.fs import FileType

from zigong.console import LOG
from zigong.errors import DataError
from zigong.lakehouse.commits import metadata_text
from zigong.lakehouse.paths import LakehousePaths


def require_written(paths: LakehousePaths, table: str, version: int) -> None:
    """Proves that every file which one commit has added exists.

    Raises:
        DataError: files are missing; the version cannot be read.
    """
    opened = DeltaTable(paths.table(table), version=version)
    with opened.to_pyarrow_dataset().filesystem.open_input_stream(f"_delta_log/{version:020d}.json") as log:
        actions = [json.loads(line) for line in log.read().decode().splitlines()]
    added = [unquote(action["add"]["path"]) for action in actions if "add" in action]
    lost = _lost(opened, added)
    if lost:
        raise DataError(
            f"table {table}: version {version} names {len(added)} files, of which {len(lost)} do not exist, first "
            f"{lost[0]}: they were removed while they were written",
            action="restore them, or run the step again as a job with the same run id and without dates; and look for "
            "what removes files below lakehouse.root other than `zigong maintain`",
        )


def require_readable(paths: LakehousePaths, table: str, *, replaced: bool, run_id: str) -> str | None:
    """Looks for lost files of the newest version; a delivery that replaces its source's rows may go on without them.

    Args:
        paths: the lakehouse.
        table: a table that a delivery is about to be published in.
        replaced: whether the delivery is whole, so that it brings the rows of its source again.
        run_id: recorded in the commit that takes the lost files out of the table.

    Returns:
        What was lost, as a warning; None if nothing was.

    Raises:
        DataError: files are lost and the delivery is only a part.
    """
    if not DeltaTable.is_deltatable(paths.table(table)):
        return None
    opened = DeltaTable(paths.table(table))
    rows = {row["path"]: row["num_records"] for row in pa.table(opened.get_add_actions(flatten=True)).to_pylist()}
    lost = _lost(opened, rows)
    if not lost:
        return None
    found = (
        f"table {table}: {len(lost)} of {len(rows)} files of version {opened.version()}, with "
        f"{sum(rows[path] or 0 for path in lost):,} rows, do not exist, first {lost[0]}"
    )
    if not replaced:
        raise DataError(
            found,
            action="restore the files from a backup, or ingest every source of this lakehouse whole (without "
            "--from-date and --to-date)",
        )
    stated = {"userMetadata": metadata_text({"repaired_by": run_id, "lost_files": len(lost)})}
    opened.repair(commit_properties=CommitProperties(custom_metadata=stated))
    LOG.warning("lost files taken out of a table", extra={"fields": {"table": table, "files": len(lost)}})
    return f"{found}; they were taken out of the table, and this delivery brings the rows of its own source again"


def _lost(opened: DeltaTable, names: Iterable[str]) -> list[str]:
    wanted = list(names)
    found = opened.to_pyarrow_dataset().filesystem.get_file_info(wanted) if wanted else []
    return [name for name, info in zip(wanted, found, strict=True) if info.type != FileType.File]
