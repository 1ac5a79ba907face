"""Digests of files: what lies in a folder, by name and content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def files_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents, in the order of the names."""
    return combined_digest({name: file_digest(file) for name, file in files.items()})


def file_digest(file: Path) -> str:
    """SHA-256 of a file's content, as 64 hex digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def combined_digest(parts: Mapping[str, str]) -> str:
    """SHA-256 over names and the digests of their contents, in the order of the names."""
    return hashlib.sha256("".join(f"{name}={parts[name]}\n" for name in sorted(parts)).encode()).hexdigest()
