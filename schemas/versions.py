"""Semantic versions of contracts."""

from __future__ import annotations

import re

_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def version_numbers(version: str) -> tuple[int, int, int] | None:
    """Major, minor and patch of ``MAJOR.MINOR.PATCH``; None for any other text."""
    found = _SEMVER.fullmatch(version)
    if found is None:
        return None
    major, minor, patch = map(int, found.groups())
    return major, minor, patch
