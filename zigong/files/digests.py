"""Digests: of a file, of what lies in a folder by name and content, and of a value as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def files_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents, in the order of the names."""
    return combined_digest({name: file_digest(file) for name, file in files.items()})


def combined_digest(parts: Mapping[str, str]) -> str:
    """SHA-256 over names and the digests of their contents, in the order of the names."""
    return hashlib.sha256("".join(f"{name}={parts[name]}\n" for name in sorted(parts)).encode()).hexdigest()


def json_digest(content: object) -> str:
    """SHA-256 of a value as JSON, keys sorted."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def complete_groups(keys: Sequence[str], most: int) -> list[int]:
    """Indices of at most ``most`` items: all items of each key, in the order of the keys' hashes; ascending.

    Empty if the first key alone has more than ``most``.
    """
    ranked = sorted(range(len(keys)), key=lambda i: hashlib.sha256(keys[i].encode()).digest())
    if len(ranked) <= most:
        return list(range(len(keys)))
    end = most
    while end and keys[ranked[end]] == keys[ranked[end - 1]]:
        end -= 1
    return sorted(ranked[:end])
