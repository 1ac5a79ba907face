"""Counts the events of an eighth of the users in plain Arrow, and compares them with the sequences built."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

BUCKET = 3  # an eighth of the users fits into memory for the check


def require_every_event(data: Path, day: str) -> None:
    """Stops the benchmark unless every user of a bucket has as many events in its sequence as Arrow counts.

    Args:
        data: folder of an input, with the sequences of ``ours`` in ``out_ours``.
        day: ISO date as of which they were built.
    """
    wanted = _events_by_user(data, datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC))
    if not wanted or _built_by_user(data, list(wanted)) != wanted:
        raise SystemExit(f"{data}: the sequences of {len(wanted)} users have other events than Arrow counts")


def _events_by_user(data: Path, moment: datetime) -> dict[str, int]:
    """Events of each user of the bucket as of a moment: newest version known, not retracted, before the moment."""
    columns = ["event_id", "known_at", "user_id", "op", "event_at"]
    ours = (ds.field("user_bucket") == BUCKET) & (ds.field("known_at") < pa.scalar(moment))
    known = ds.dataset(data / "events").to_table(columns, filter=ours)
    newest = known.group_by("event_id").aggregate([("known_at", "max")]).rename_columns(["event_id", "known_at"])
    current = known.join(newest, ["event_id", "known_at"], join_type="inner")
    visible = current.filter((pc.field("op") == "upsert") & (pc.field("event_at") < pa.scalar(moment)))
    counts = visible.group_by("user_id").aggregate([([], "count_all")])
    return dict(zip(counts["user_id"].to_pylist(), counts["count_all"].to_pylist(), strict=True))


def _built_by_user(data: Path, users: list[str]) -> dict[str, int]:
    """The event counts in the sequences of some users."""
    built = ds.dataset(data / "out_ours").to_table(["user_id", "events_used"], filter=ds.field("user_id").isin(users))
    return dict(zip(built["user_id"].to_pylist(), built["events_used"].to_pylist(), strict=True))
