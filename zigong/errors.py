"""The four kinds of failures of a job, each with its exit code and whether a retry makes sense.

Launchers lose exit codes (``ray job submit`` exits with 1 for everything), so every job also writes its failure into
``outcome.json``; schedulers read ``kind`` and ``retryable`` there.
"""

from __future__ import annotations

from typing import ClassVar


class ZigongError(Exception):
    """Base of every failure that ZiGong reports with a kind.

    Args:
        message: what was expected, what was found, and where (file, field, table, partition).
        action: what the reader should do next.
    """

    kind: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, action: str) -> None:
        super().__init__(message)
        self.message = message
        self.action = action

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.action}"


class ConfigError(ZigongError):
    """The recipe, an argument or the environment is wrong; the same call fails again until it is corrected."""

    kind = "config"
    exit_code = 2


class DataError(ZigongError):
    """Input or a built table violates its contract; the published version is unchanged."""

    kind = "data"
    exit_code = 3


class ConflictError(ZigongError):
    """Another writer committed the same partitions while this job ran; recompute and try again."""

    kind = "conflict"
    exit_code = 4
    retryable = True


class InfraError(ZigongError):
    """Java, disk, network or a cluster is missing or broke; a retry may succeed once it is back."""

    kind = "infra"
    exit_code = 5
    retryable = True


_FULL = ("No space left on device", "Disk quota exceeded")  # how every engine reports ENOSPC and EDQUOT


def full_disk(error: Exception) -> InfraError | None:
    """The error as a full-disk error, however Python, Java or Rust wrapped it; None for other errors."""
    text = str(error)
    if not any(words in text for words in _FULL):
        return None
    lines = [line.strip() for line in text.splitlines() if any(words in line for words in _FULL)]
    return InfraError(
        f"a disk is full: {lines[0][:300]}",
        action="free or add space where lakehouse.root and Spark's local folders lie, then run the step again with the "
        "same run id; the published versions are unchanged",
    )
