"""Digests of files: what lies in a folder, by name and content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def files_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents, in the order of the names."""
    whole = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as content:
            part = hashlib.file_digest(content, "sha256").hexdigest()
        whole.update(f"{name}={part}\n".encode())
    return whole.hexdigest()
