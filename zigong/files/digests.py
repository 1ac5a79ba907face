"""Digests: of a file, of what lies in a folder by name and content, and of a value as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def files_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents, in the order of the names."""
    listed = "".join(f"{name}={file_digest(files[name])}\n" for name in sorted(files))
    return hashlib.sha256(listed.encode()).hexdigest()


def json_digest(content: object) -> str:
    """SHA-256 of a value as JSON, keys sorted."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
