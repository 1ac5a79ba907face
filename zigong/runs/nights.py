"""Which known dates of a source were ingested: recorded by each ingest that ends well, and checked for holes.

A record is a file of its own, ``_nights/SOURCE/FIRST_END_RUN.json``, so that two runs never write the same one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from zigong.errors import DataError
from zigong.files.atomic import write_json
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.dates import Dates

FOLDER = "_nights"
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """One ingest of a source that ended well.

    Attributes:
        first: ISO date of the first known date; None: everything before ``end``.
        end: ISO date after the last one. Of an ingest without dates, the day after the newest known date it brought.
        at: when it ended.
    """

    source: str
    run_id: str
    first: str | None
    end: str
    attempt: int
    at: str


@dataclass(frozen=True, kw_only=True)
class Nights:
    """The known dates of a source.

    Attributes:
        begin: the first date from which on every date is expected.
        end: the day after the newest ingested one.
        missing: expected dates that no ingest brought.
        doubled: dates that several runs ingested by date, with the runs; the newest one's rows stand.
    """

    source: str
    begin: date
    end: date
    missing: tuple[date, ...]
    doubled: dict[date, tuple[str, ...]]


def record_nights(paths: LakehousePaths, *, source: str, run_id: str, attempt: int, dates: Dates, end: date) -> None:
    """Records an ingest that ended well; a later attempt of the run replaces the record.

    Args:
        paths: the lakehouse.
        source: name of the mapping.
        run_id: the run.
        attempt: fencing token of the attempt.
        dates: the range it was limited to.
        end: the day after the last known date it covered.
    """
    first = dates.first.isoformat() if dates.first else None
    done = Ingested(
        source=source,
        run_id=run_id,
        first=first,
        end=end.isoformat(),
        attempt=attempt,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_json(_folder(paths, source) / f"{first or 'all'}_{end.isoformat()}_{run_id}.json", asdict(done))


def nights_of(paths: LakehousePaths, source: str) -> Nights | None:
    """The state of a source's known dates, None if none was ever recorded."""
    files = sorted(_folder(paths, source).glob("*.json"))
    return _nights(source, [Ingested(**json.loads(file.read_text(encoding="utf-8"))) for file in files])


def recorded_sources(paths: LakehousePaths) -> tuple[str, ...]:
    """The sources with records, sorted."""
    folder = paths.local(FOLDER)
    return tuple(sorted(item.name for item in folder.iterdir() if item.is_dir())) if folder.is_dir() else ()


def healed(dates: Dates, nights: Nights | None) -> Dates:
    """The range of a night, extended to the missing dates immediately before it."""
    first = dates.first
    if nights is None or first is None:
        return dates
    missing = set(missing_before(nights, first))
    while first - ONE_DAY in missing:
        first -= ONE_DAY
    return Dates(first=first, end=dates.end)


def missing_before(nights: Nights, day: date) -> tuple[date, ...]:
    """The expected dates before a day that no ingest brought, also those that none has reached yet."""
    unreached = _days(nights.end, day)
    return (*(missing for missing in nights.missing if missing < day), *unreached)


def require_complete(source: str, missing: Sequence[date], *, purpose: str) -> None:
    """Ends a step that would work on a log with holes.

    Raises:
        DataError: dates are missing; the message names them.
    """
    if missing:
        raise DataError(
            f"source {source}: {len(missing)} known dates were never ingested: {spans_text(missing)}; {purpose}",
            action="run those nights again (clear their tasks, or `airflow backfill create`), or ingest the dates by "
            "hand: jobs.ingest_events --from-date FIRST --to-date DAY_AFTER; `zigong nights ls` lists them",
        )


def spans_text(days: Iterable[date]) -> str:
    """Dates as text, consecutive ones as a span."""
    spans: list[list[date]] = []
    for day in sorted(days):
        if spans and day - spans[-1][-1] == ONE_DAY:
            spans[-1].append(day)
        else:
            spans.append([day])
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans)


def _nights(source: str, records: Sequence[Ingested]) -> Nights | None:
    if not records:
        return None
    runs: dict[date, set[str]] = defaultdict(set)
    for record in records:
        if record.first is not None:
            for day in _days(date.fromisoformat(record.first), date.fromisoformat(record.end)):
                runs[day].add(record.run_id)
    whole = max((date.fromisoformat(record.end) for record in records if record.first is None), default=None)
    begin = whole if whole is not None else min(runs)
    end = max(date.fromisoformat(record.end) for record in records)
    return Nights(
        source=source,
        begin=begin,
        end=end,
        missing=tuple(day for day in _days(begin, end) if day not in runs),
        doubled={day: tuple(sorted(names)) for day, names in sorted(runs.items()) if len(names) > 1},
    )


def _days(first: date, end: date) -> tuple[date, ...]:
    return tuple(first + timedelta(days=number) for number in range((end - first).days))


def _folder(paths: LakehousePaths, source: str) -> Path:
    return paths.local(FOLDER, source)
