"""Keeps the result of a check in the user's cache: a second check of unchanged inputs needs no Spark.

The result holds counts, names and masked shapes, never a raw value; only the user can read it.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

import schemas
import zigong
from schemas.mappings import SourceMapping
from zigong.behavior.sources.findings import SourceCheck
from zigong.behavior.sources.listing import listings

KEPT_RESULTS = 20
_RESULT = TypeAdapter(SourceCheck)


def result_file(mapping: SourceMapping, path: str, *, timezone: str) -> Path | None:
    """Where the result of a check is kept: its name follows from mapping, files, code, time zone and date.

    Returns:
        None if the files cannot be distinguished by name, size and time of change, as those of Delta tables.
    """
    found = listings(mapping, path)
    if len(found) < len(mapping.files):
        return None
    read = [_state(item.path) for listing in found.values() for item in listing.read]
    unread = [sorted(listing.unread.items()) for listing in found.values()]
    code = [
        _state(file)
        for package in (schemas, zigong)
        for file in sorted(Path(str(package.__file__)).parent.rglob("*"))
        if file.suffix in (".py", ".yaml")
    ]
    today = datetime.now(UTC).date().isoformat()  # a check looks for times in the future
    inputs = [mapping.digest, mapping.origin, str(Path(path).absolute()), timezone, today, read, unread, code]
    name = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home, "zigong", "checks", f"{name}.json")


def remembered(file: Path | None) -> SourceCheck | None:
    """The result that is kept there; None if there is none of this version."""
    if file is None or not file.is_file():
        return None
    try:
        return _RESULT.validate_json(file.read_bytes())
    except (ValidationError, OSError):  # another version's, or removed meanwhile: the check is made again
        return None


def remember(file: Path | None, result: SourceCheck) -> None:
    """Keeps a result, and the newest others; without a place to write, nothing is kept."""
    if file is None:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_bytes(_RESULT.dump_json(result))
        for old in sorted(file.parent.glob("*.json"), key=lambda kept: kept.stat().st_mtime)[:-KEPT_RESULTS]:
            old.unlink()


def _state(file: Path) -> tuple[str, int, int]:
    stat = file.stat()
    return str(file), stat.st_size, stat.st_mtime_ns
