"""Lists the files that a mapping reads, and every other file of their folders with the reason why it is not read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from glob import iglob
from pathlib import Path
from urllib.parse import unquote

from schemas.mappings import SourceFile, SourceMapping
from zigong.behavior.sources.records import plain_name
from zigong.errors import DataError

ENDINGS = {"csv": (".csv",), "json": (".json", ".jsonl", ".ndjson"), "parquet": (".parquet",)}
_BOOKKEEPING = re.compile(r"_SUCCESS|_COMPLETE|_(committed|started)_.*|\..*\.crc|_metadata|_common_metadata")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
HIDDEN, NESTED = "its name or folder begins with _ or .", "in a subfolder"
NAMED_FILES = 5


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """A file to read.

    Attributes:
        path: where it lies.
        name: its path relative to the folder of the source.
        partition: values of the partition folders above it, such as ``date=2023-01``, as the texts they are.
    """

    path: Path
    name: str
    partition: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of one file section of a mapping.

    Attributes:
        read: the files to read, by name.
        unread: the other files of the folder: by name, the reason.
        folder: the folder that the partition folders are in.
        several: whether the mapping names a folder or a pattern, not one file.
    """

    read: tuple[RawFile, ...]
    unread: Mapping[str, str]
    folder: Path
    several: bool


def listed(file: SourceFile, source: str) -> Listing:
    """The files of a section below the folder of the source.

    A folder stands for the files in it and in its partition folders that have the ending of the format or, if none has,
    the only ending there is. Files whose names begin with ``_`` or ``.`` are never read, unless the mapping names one.

    Raises:
        DataError: there is no such file, or it is not clear which files of a folder are meant.
    """
    folder = Path(source)
    target = folder / file.path
    if target.is_file():
        return Listing(read=(_raw(target, folder),), unread={}, folder=target.parent, several=False)
    pattern = not target.exists() and any(letter in file.path for letter in "*?[{")
    if not target.exists() and not pattern:
        raise _missing(file, target, "does not exist", "set source.path of the recipe to its folder")
    base = _fixed_part(folder, file.path) if pattern else target
    everything = {path: _raw(path, folder) for path in _files_below(base)}
    chosen = _matching(str(target)) if pattern else [target]
    candidates = {path: _objection(path, base, chosen) for path in everything}
    read = [path for path, objection in candidates.items() if objection is None]
    if not pattern or all(path.is_dir() for path in chosen):
        candidates |= _of_other_endings(file, read)
    read = [path for path, objection in candidates.items() if objection is None]
    if not read:
        raise _missing(file, target, "holds no file", "deliver the files, or correct path in the source mapping")
    return Listing(
        read=tuple(everything[path] for path in read),
        unread={everything[path].name: reason for path, reason in candidates.items() if reason is not None},
        folder=base,
        several=True,
    )


def listings(mapping: SourceMapping, source: str) -> dict[str, Listing]:
    """By file section of a mapping, the files of its folder; sections that cannot be listed are left out."""
    found = {}
    for file in mapping.files:
        if file.format != "delta" and "://" not in source:
            try:
                found[file.name] = listed(file, source)
            except DataError:  # reported where the file is read
                continue
    return found


def unread_files(mapping: SourceMapping, source: str) -> str | None:
    """The files that lie in a folder of the mapping but are not read, as text; None: every file is read."""
    texts = [
        f"{name}: {named([f'{path} ({reason})' for path, reason in found.unread.items()])}"
        for name, found in listings(mapping, source).items()
        if found.unread
    ]
    return "; ".join(texts) or None


def named(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED_FILES:,} more" if len(names) > NAMED_FILES else ""
    return ", ".join(names[:NAMED_FILES]) + more


def _raw(path: Path, folder: Path) -> RawFile:
    name = path.relative_to(folder)
    pairs = [part.partition("=") for part in name.parts[:-1] if "=" in part]
    values = {key: None if value == _NO_VALUE else unquote(value) for key, _, value in pairs}
    return RawFile(path=path, name=name.as_posix(), partition=values)


def _files_below(base: Path) -> Iterator[Path]:
    for path in sorted(base.rglob("*")):
        parts = path.relative_to(base).parts
        if path.is_file() and not _BOOKKEEPING.fullmatch(path.name) and "_delta_log" not in parts:
            yield path


def _fixed_part(folder: Path, pattern: str) -> Path:
    """The folder of a pattern: its parts before the first one with a wildcard."""
    parts = Path(pattern).parts[:-1]
    fixed = next((place for place, part in enumerate(parts) if any(letter in part for letter in "*?[{")), len(parts))
    return folder.joinpath(*parts[:fixed])


def _matching(pattern: str) -> list[Path]:
    """The paths that match a pattern with ``*``, ``?``, ``[...]`` and ``{a,b}``."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [Path(path) for path in sorted(iglob(pattern))]  # noqa: PTH207 - the folder is part of the pattern
    start, end = braces.span()
    return [path for option in braces[1].split(",") for path in _matching(pattern[:start] + option + pattern[end:])]


def _objection(path: Path, base: Path, chosen: list[Path]) -> str | None:
    """Why a file is not read, by its place and name; None: it is read."""
    root = next((root for root in chosen if path == root or path.is_relative_to(root)), None)
    if root is None:
        return "does not match path"
    parts = path.relative_to(base).parts
    if any(part.startswith(("_", ".")) and "=" not in part for part in parts):
        return HIDDEN
    if any("=" not in part for part in path.relative_to(root).parts[:-1]):
        return NESTED
    return None


def _of_other_endings(file: SourceFile, paths: list[Path]) -> dict[Path, str]:
    """The files whose ending is not the one to read."""
    known = ENDINGS[file.format]
    ends = {path: Path(plain_name(path)).suffix for path in paths}
    found = sorted(set(ends.values()))
    if not any(ending in known for ending in found) and len(found) > 1:
        kinds = ", ".join(ending or "no ending" for ending in found)
        raise DataError(
            f"raw file {file.name}: {file.path} holds files of several kinds ({kinds}) and none that ends in "
            f"{' or '.join(known)}",
            action=f"say which are meant by a pattern, such as path: {file.path.rstrip('/')}/*{found[-1]}",
        )
    return {
        path: f"its name does not end in {' or '.join(known)}"
        for path, ending in ends.items()
        if ending not in known and any(other in known for other in found)
    }


def _missing(file: SourceFile, target: Path, problem: str, action: str) -> DataError:
    return DataError(f"raw file {file.name}: {target} {problem}", action=action)
