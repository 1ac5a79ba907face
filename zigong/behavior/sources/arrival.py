"""The files of a delivery by their date of arrival, which is in their name or folder, and what is known of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.mappings import SourceFile, SourceMapping
from zigong.behavior.sources.listing import listed, named
from zigong.behavior.sources.text_rows import FILE
from zigong.lakehouse.deliveries import DeliveredFile, Delivery

_PARTS = {"{yyyy}": r"(?P<year>\d{4})", "{mm}": r"(?P<month>\d{2})", "{dd}": r"(?P<day>\d{2})"}


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """The files that arrived on the dates of a run.

    Attributes:
        read: by section with a pattern, the names of the files to read: those of every date of which one is new or
            changed.
        files: the same with their digests, for the record.
        known: number of files of these dates that were ingested before, unchanged, and are not read again.
        changed: files that were ingested before with another content.
        vanished: files that were ingested before and are no longer there.
        missed: files that arrived before these dates and were never ingested.
        undated: files whose path does not match the pattern; they are not read.
    """

    read: Mapping[str, frozenset[str]]
    files: tuple[DeliveredFile, ...]
    known: int
    changed: tuple[str, ...]
    vanished: tuple[str, ...]
    missed: tuple[str, ...]
    undated: tuple[str, ...]

    def warnings(self) -> list[str]:
        """One sentence for each kind of file that somebody should know of."""
        kinds = {
            "were delivered again with another content": self.changed,
            "were ingested and are no longer there": self.vanished,
            "arrived earlier and were never ingested: run the nights of their dates": self.missed,
            "do not match the pattern of their arrival and are not read": self.undated,
        }
        return [f"files {what}: {named(list(paths))}" for what, paths in kinds.items() if paths]


def arrivals(
    mapping: SourceMapping, folder: str, first: date | None, end: date | None, earlier: Sequence[Delivery]
) -> Arrivals:
    """Finds the files of the sections with a pattern that arrived in [first, end).

    Args:
        earlier: deliveries of the source.
    """
    there, undated = _dated_files(mapping, Path(folder))
    ingested = {file.path for item in earlier for file in item.files}
    ledger = {file.path: file for item in earlier if item.mapping_digest == mapping.digest for file in item.files}
    due = [_seen(found, ledger) for found in there if _within(found.file.arrived_on, first, end)]
    fresh = {found.file.arrived_on for found in due if not _is_known(found.file, ledger)}
    read = [found for found in due if found.file.arrived_on in fresh]
    sections = {file.name: [found for found in read if found.section == file.name] for file in _by_arrival(mapping)}
    paths = {found.file.path for found in there}
    return Arrivals(
        read={name: frozenset(found.file.path for found in files) for name, files in sections.items()},
        files=tuple(found.file for found in read),
        known=len(due) - len(read),
        changed=tuple(f.file.path for f in due if f.file.path in ledger and not _is_known(f.file, ledger)),
        vanished=tuple(
            path for path, file in sorted(ledger.items()) if path not in paths and _within(file.arrived_on, first, end)
        ),
        missed=tuple(f.file.path for f in there if first and _day(f.file) < first and f.file.path not in ingested),
        undated=tuple(undated),
    )


def arrived_on(file: SourceFile) -> Column:
    """The date of arrival of a row's file; the section has a pattern."""
    path, pattern = F.col(FILE), _regex(file.arrival or "")
    java = ".*" + re.sub(r"\?P<\w+>", "", pattern.pattern)
    parts = [F.regexp_extract(path, java, pattern.groupindex[name]) for name in ("year", "month", "day")]
    return F.concat_ws("-", *parts).try_cast("date")


@dataclass(frozen=True, kw_only=True)
class _Found:
    section: str
    path: Path
    file: DeliveredFile  # without a digest until it is needed


def _dated_files(mapping: SourceMapping, folder: Path) -> tuple[list[_Found], list[str]]:
    """The files of every section with a pattern, and the paths without a date."""
    found, undated = [], []
    for section in _by_arrival(mapping):
        pattern = _regex(section.arrival or "")
        for item in listed(section, str(folder)).read:
            path, name = item.path, item.name
            day = _date_in(pattern, name)
            if day is None:
                undated.append(name)
                continue
            state = path.stat()
            written = datetime.fromtimestamp(state.st_mtime, UTC)
            file = DeliveredFile(path=name, arrived_on=day, bytes=state.st_size, modified_at=written, digest="")
            found.append(_Found(section=section.name, path=path, file=file))
    return found, undated


def _by_arrival(mapping: SourceMapping) -> list[SourceFile]:
    return [file for file in mapping.files if file.arrival is not None]


def _regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern)
    for part, digits in _PARTS.items():
        text = text.replace(re.escape(part), digits)
    return re.compile(text)


def _date_in(pattern: re.Pattern[str], path: str) -> date | None:
    """The date at the last place of a path that matches."""
    matches = list(pattern.finditer(path))
    if not matches:
        return None
    year, month, day = (int(matches[-1][name]) for name in ("year", "month", "day"))
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _seen(found: _Found, ledger: Mapping[str, DeliveredFile]) -> _Found:
    """The file with its digest, which is computed only where size or time differ from those recorded."""
    known = ledger.get(found.file.path)
    if known and (known.bytes, known.modified_at) == (found.file.bytes, found.file.modified_at):
        return replace(found, file=known)
    with found.path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return replace(found, file=replace(found.file, digest=digest))


def _is_known(file: DeliveredFile, ledger: Mapping[str, DeliveredFile]) -> bool:
    return file.path in ledger and ledger[file.path].digest == file.digest


def _day(file: DeliveredFile) -> date:
    return file.arrived_on or date.max


def _within(day: date | None, first: date | None, end: date | None) -> bool:
    return day is not None and (first is None or day >= first) and (end is None or day < end)
