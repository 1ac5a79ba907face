"""The outcome of a publish."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Published:
    """The outcome of one publish; recorded in the userMetadata of the commit and in the manifest of the run.

    Attributes:
        rows_in: rows read, counted at the read: published + quarantined + dropped + outside, unless it was blocked.
        published: rows of the input that were published.
        outside: rows of the input outside the dates of the run.
        carried: rows matching ``cells`` that were published before and stay.
        found: further counts of a delivery; recorded so that an attempt that follows the commit has them.
    """

    run_id: str
    step: str
    table: str
    cells: str
    verdict: str
    version: int
    rows_in: int
    published: int
    quarantined: int
    dropped: dict[str, int] = field(default_factory=dict)
    lineage: dict[str, Any] | None = None
    rules_version: str = ""
    attempt: int = 0
    rerun: int = 0
    outside: int = 0
    carried: int = 0
    found: dict[str, int] | None = None

    def counts(self) -> dict[str, Any]:
        """Rows in, published, quarantined, dropped, and outside the dates."""
        return {
            "rows_in": self.rows_in,
            "published": self.published,
            "quarantined": self.quarantined,
            "dropped": self.dropped,
            "outside": self.outside,
        }
