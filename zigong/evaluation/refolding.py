"""Published sequences under the history policy of another model."""

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
class HistoryPolicy:
    """How much of a history a sequence keeps.

    Attributes:
        max_events: number of newest events kept; older calendar months are folded as a whole.
        timezone: time zone of the calendar months.
    """

    max_events: int
    timezone: str


def refolded(sequences: pa.Table, published: HistoryPolicy, wanted: HistoryPolicy) -> pa.Table:
    """Rows of user_sequences with the events, counts and sequence_id of another history policy.

    Equal, row by row, to ``behavior.sequences.sequences_of`` with the wanted policy.

    Args:
        sequences: columns sequence_id, user_id, loan_id, observation_at, counts, events, event_loans and possibly
            others.
        published: the policy that the sequences were built with.
        wanted: the policy of the model.

    Raises:
        DataError: older events that the model reads were folded, or the sequences were built with another policy.
    """
    rows = sequences.combine_chunks()
    if rows["sequence_id"].to_pylist() != _sequence_ids(rows, history_policy(published.max_events)):
        raise DataError(
            f"user_sequences: expected the history policy {history_policy(published.max_events)}, as in the "
            "recipe, found sequence ids of another one",
            action="run build_sequences with this recipe first",
        )
    if published == wanted:
        return rows
    events, counts = _only_chunk(rows["events"]), _only_chunk(rows["counts"])
    flat, sizes = events.flatten(), pc.list_value_length(events).to_numpy()
    folded = counts.field("folded").to_numpy()
    same_months = published.timezone == wanted.timezone and wanted.max_events <= published.max_events
    missing = int(np.count_nonzero((folded > 0) & (sizes <= wanted.max_events))) if not same_months else 0
    if missing:
        raise DataError(
            f"user_sequences keeps {published.max_events} events in months of {published.timezone}; the model reads "
            f"{wanted.max_events} in months of {wanted.timezone}, and of {missing} of {len(rows)} clients in this "
            "shard older events were folded",
            action=f"build sequences in the model's time zone with instructions.max_events {wanted.max_events} or more",
        )
    months = months_of(local_days(flat.field("event_at"), ZoneInfo(wanted.timezone)))
    ends = np.cumsum(sizes)
    kept = [_kept(months, int(end - size), int(end), wanted.max_events) for end, size in zip(ends, sizes, strict=True)]
    kept_sizes = np.array([len(part) for part in kept], dtype=np.int64)
    bounds = pa.array(np.concatenate([[0], np.cumsum(kept_sizes)]).astype(np.int32))
    taken = pa.array(np.concatenate([*kept, np.zeros(0, dtype=np.int64)]).astype(np.int64))
    known = counts.field("events").to_numpy()
    columns = {
        "events": pa.ListArray.from_arrays(bounds, flat.take(taken)),
        "event_loans": pa.ListArray.from_arrays(bounds, _only_chunk(rows["event_loans"]).flatten().take(taken)),
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
    """Positions of the events after the month of the newest one that does not fit; the newest ones if none remain."""
    if end - start <= max_events:
        return np.arange(start, end)
    newer = start + np.flatnonzero(months[start:end] > months[end - max_events - 1])
    return newer if len(newer) else np.arange(end - max_events, end)


def _sequence_ids(rows: pa.Table, policy_id: str) -> list[str]:
    """The ids that ``behavior.sequences`` assigns; the phrasing of a question depends on them."""
    named = zip(*(rows[name].to_pylist() for name in ("user_id", "loan_id", "observation_at")), strict=True)
    texts = ("|".join(filter(None, (user_id, loan_id, _instant(at), policy_id))) for user_id, loan_id, at in named)
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()
