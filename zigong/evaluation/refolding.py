"""Published sequences as the history policy of another model would have kept them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zigong.errors import DataError
from zigong.incremental.sequences import history_policy
from zigong.instructions.histories import local_days, months_of

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How much of a history sequences keep.

    Attributes:
        max_events: newest events kept; older whole calendar months fold.
        timezone: whose calendar months.
    """

    max_events: int
    timezone: str


def refolded(sequences: pa.Table, published: Kept, wanted: Kept) -> pa.Table:
    """Rows of user_sequences with the events, counts and sequence_id of another history policy.

    Equals ``behavior.sequences.sequences_of`` with the wanted policy, row for row.

    Args:
        sequences: columns sequence_id, user_id, observation_at, counts and events among others.
        published: how the sequences were built.
        wanted: how the model wants them.

    Raises:
        DataError: older events that the model would read were folded away, or the sequences were built otherwise.
    """
    rows = sequences.combine_chunks()
    if rows["sequence_id"].to_pylist() != _sequence_ids(rows, history_policy(published.max_events)):
        raise DataError(
            f"user_sequences: expected the history policy {history_policy(published.max_events)}, as the recipe has "
            "it, found the names of another one",
            action="run build_sequences with this recipe first",
        )
    if published == wanted:
        return rows
    events, counts = _only_chunk(rows["events"]), _only_chunk(rows["counts"])
    flat, sizes = events.flatten(), pc.list_value_length(events).to_numpy()
    folded = counts.field("folded").to_numpy()
    same_months = published.timezone == wanted.timezone and wanted.max_events <= published.max_events
    lost = int(np.count_nonzero((folded > 0) & (sizes <= wanted.max_events))) if not same_months else 0
    if lost:
        raise DataError(
            f"user_sequences keeps {published.max_events} events in months of {published.timezone}; the model reads "
            f"{wanted.max_events} in months of {wanted.timezone}, and of {lost} of {len(rows)} clients in this shard "
            "older events were folded away",
            action=f"build sequences in the model's time zone with instructions.max_events {wanted.max_events} or more",
        )
    months = months_of(local_days(flat.field("event_at"), ZoneInfo(wanted.timezone)))
    ends = np.cumsum(sizes)
    kept = [_kept(months, int(end - size), int(end), wanted.max_events) for end, size in zip(ends, sizes, strict=True)]
    kept_sizes = np.array([len(part) for part in kept], dtype=np.int64)
    bounds = pa.array(np.concatenate([[0], np.cumsum(kept_sizes)]).astype(np.int32))
    taken = flat.take(pa.array(np.concatenate([*kept, np.zeros(0, dtype=np.int64)]).astype(np.int64)))
    known = counts.field("events").to_numpy()
    columns = {
        "events": pa.ListArray.from_arrays(bounds, taken),
        "counts": pa.StructArray.from_arrays(
            [pa.array(values, pa.int32()) for values in (known, kept_sizes, known - kept_sizes)],
            names=["events", "kept", "folded"],
        ),
        "sequence_id": pa.array(_sequence_ids(rows, history_policy(wanted.max_events)), pa.string()),
    }
    for name, column in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def _kept(months: Integers, start: int, end: int, max_events: int) -> Integers:
    """Positions of the events after the month of the newest one that does not fit; the newest where none is left."""
    if end - start <= max_events:
        return np.arange(start, end)
    whole = start + np.flatnonzero(months[start:end] > months[end - max_events - 1])
    return whole if len(whole) else np.arange(end - max_events, end)


def _sequence_ids(rows: pa.Table, policy_id: str) -> list[str]:
    """As ``behavior.sequences`` names sequences; the wording of a question is chosen by the name."""
    named = zip(rows["user_id"].to_pylist(), rows["observation_at"].to_pylist(), strict=True)
    texts = (f"{user_id}|{_instant(at)}|{policy_id}" for user_id, at in named)
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()
