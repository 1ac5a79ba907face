"""The table of deliveries: which dates and files of a source each run has ingested, and what became of the events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow.dataset as ds

from zigong.lakehouse.commits import replace_rows
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, published_version

DELIVERIES = "deliveries"
READS = 5


@dataclass(frozen=True, kw_only=True)
class DeliveredFile:
    """A file that was read.

    Attributes:
        path: below the folder of the source.
        arrived_on: its date of arrival by its name or folder; None: the mapping declares no pattern.
        bytes: its size.
        modified_at: time of its last modification, by its file system.
        digest: SHA-256 of its content.
    """

    path: str
    arrived_on: date | None
    bytes: int
    modified_at: datetime
    digest: str


@dataclass(frozen=True, kw_only=True)
class EventCounts:
    """What became of the events of a delivery: read = published + quarantined + dropped + outside.

    Attributes:
        late: published events that arrived after the moment they state.
        changed: published versions that differ from the one published before.
        retracted: retractions of events that a full delivery left out; not read, but published.
    """

    read: int
    published: int
    quarantined: int
    dropped: int
    outside: int
    late: int = 0
    changed: int = 0
    retracted: int = 0


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What one run ingested of one source.

    Attributes:
        from_date: first date of the run; None: none, it read everything before ``to_date``.
        to_date: end of its dates, excluded; None: none, it read everything from ``from_date`` on.
        known_before: the events known before this date are published.
    """

    source: str
    run_id: str
    from_date: date | None
    to_date: date | None
    known_before: date
    mapping_digest: str
    files: tuple[DeliveredFile, ...]
    events: EventCounts

    def covers(self, first: date | None, end: date | None) -> bool:
        """Whether it holds any date of a range."""
        begins = self.from_date is None or end is None or self.from_date < end
        ends = self.to_date or self.known_before
        return begins and (first is None or first < ends)


def deliveries_of(paths: LakehousePaths, source: str) -> list[Delivery]:
    """The deliveries of a source, oldest first."""
    rows = _newest_rows(paths, source)
    return [_delivery(row) for row in sorted(rows, key=lambda row: row["recorded_at"])]


def _newest_rows(paths: LakehousePaths, source: str) -> list[dict[str, Any]]:
    """The rows of the newest version; where maintenance removes its files meanwhile, those of the next one."""
    for attempt in range(READS):
        version = published_version(paths, DELIVERIES)
        if version is None:
            break
        try:
            found = arrow_pinned(paths, DELIVERIES, version, where=ds.field("source") == source)
            rows: list[dict[str, Any]] = found.to_pylist()
            return rows
        except FileNotFoundError:
            if attempt == READS - 1 or published_version(paths, DELIVERIES) == version:
                raise
    return []


def record_delivery(paths: LakehousePaths, delivery: Delivery) -> None:
    """Replaces the record of a run."""
    counts = {f"events_{name}": count for name, count in asdict(delivery.events).items()}
    others = {name: value for name, value in asdict(delivery).items() if name not in ("events", "files")}
    files = [asdict(file) for file in delivery.files]
    row = {**others, **counts, "files": files, "recorded_at": datetime.now(UTC)}
    where = f"source = '{delivery.source}' AND run_id = '{delivery.run_id}'"
    replace_rows(paths, DELIVERIES, [row], where=where, metadata={"run_id": delivery.run_id})


def frontier(deliveries: Sequence[Delivery], first: date | None, end: date | None) -> date | None:
    """The first date after all that is published of a source, if one of the dates was ingested before; else None."""
    if not any(delivery.covers(first, end) for delivery in deliveries):
        return None
    return max(delivery.known_before for delivery in deliveries)


def _delivery(row: dict[str, object]) -> Delivery:
    events = {name.removeprefix("events_"): row.pop(name) for name in list(row) if name.startswith("events_")}
    files = tuple(DeliveredFile(**file) for file in row.pop("files"))  # type: ignore[attr-defined]
    row.pop("recorded_at")
    return Delivery(**row, files=files, events=EventCounts(**events))  # type: ignore[arg-type]
