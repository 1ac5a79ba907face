"""Findings on the files of a source: which were read, with how many rows, and which were not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import DataFrame

from schemas.mappings import SourceMapping
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.listing import ENDINGS, HIDDEN, NESTED, Listing, listings, named
from zigong.behavior.sources.records import plain_name
from zigong.behavior.sources.text_rows import FILE


def unread_findings(mapping: SourceMapping, path: str) -> list[SourceFinding]:
    """The files in the folders of a mapping that are not read; blocking where their names say that they hold data."""
    formats = {file.name: file.format for file in mapping.files}
    return [
        _finding(name, reason, files, endings=ENDINGS[formats[name]])
        for name, found in listings(mapping, path).items()
        for reason, files in _by_reason(found).items()
    ]


def rows_of_files(cells: DataFrame) -> dict[str, int]:
    """The number of rows by file name, in one pass; the rows of Delta tables have no file: the name is empty."""
    counted = cells.groupBy(FILE).count().collect()
    return {row[FILE] or "": row["count"] for row in sorted(counted, key=lambda row: row[FILE] or "")}


def with_empty_files(mapping: SourceMapping, path: str, rows: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The rows of each file of a folder or pattern, also of files without any; nothing for sections of one file.

    Args:
        mapping: the mapping.
        path: folder of the raw files.
        rows: by section, as returned by :func:`rows_of_files`.
    """
    folders = [(rows[name], found) for name, found in listings(mapping, path).items() if found.several and name in rows]
    return {item.name: counted.get(item.name, 0) for counted, found in folders for item in found.read}


def _by_reason(found: Listing) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in found.unread.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def _finding(section: str, reason: str, files: list[str], *, endings: tuple[str, ...]) -> SourceFinding:
    holds_data = reason in (HIDDEN, NESTED) and any(plain_name(Path(name)).endswith(endings) for name in files)
    return SourceFinding(
        section=f"files: {section}",
        problem=f"{len(files):,} of the folder not read ({reason}): {named(files)}",
        action="move or rename them, or let path say which files are meant, such as folder/*.csv",
        blocking=holds_data,
    )
