"""Histories without one group of events, or without one field of the profile: how much does the group move a score?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zigong.features.event_arrays import Flags, Ints, integers, row_of_items

EVENTS, OTHER_LOANS, PROFILE = "events", "other_loans", "profile"


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The sequences that have a group, without it.

    Attributes:
        group: ``events:TYPE`` for the events of a type, ``other_loans:TYPE`` for those of the client's other loans
            where a loan is observed, ``profile:KEY`` for a field of the profile.
        rows: indices of these sequences; shape [sequences that have the group].
        sequences: their rows of user_sequences; certificates and numbers of loans are those of the complete history.
    """

    group: str
    rows: Ints
    sequences: pa.Table


def removals(sequences: pa.Table) -> Iterator[Removal]:
    """Each group that occurs, in order of its name.

    Args:
        sequences: rows of user_sequences with events, event_loans, loan, counts and profile.
    """
    groups = _groups_of_events(sequences)
    for name in sorted(set(groups)):
        dropped: Flags = groups == name
        rows = np.unique(row_of_items(sequences["events"])[dropped])
        yield Removal(group=name, rows=rows, sequences=without_events(sequences, dropped).take(pa.array(rows)))
    yield from _profile_removals(sequences)


def without_events(sequences: pa.Table, dropped: Flags) -> pa.Table:
    """Sequences without some of their events.

    Args:
        sequences: rows with events, event_loans and counts.
        dropped: shape [events of all sequences].
    """
    events, row = sequences["events"].combine_chunks(), row_of_items(sequences["events"])
    kept = pa.array(np.flatnonzero(~dropped))
    sizes = np.bincount(row[~dropped], minlength=len(sequences))
    gone = pa.array(np.bincount(row[dropped], minlength=len(sequences)), pa.int32())
    bounds = pa.array(np.concatenate([[0], sizes.cumsum()]), pa.int32())
    loans = sequences["event_loans"].combine_chunks()
    counts = sequences["counts"].combine_chunks()
    left = [pc.subtract(counts.field(name), gone).cast(pa.int32()) for name in ("events", "kept")]
    columns = {
        "events": pa.ListArray.from_arrays(bounds, pc.list_flatten(events).take(kept), type=events.type),
        "event_loans": pa.ListArray.from_arrays(bounds, pc.list_flatten(loans).take(kept), type=loans.type),
        "counts": pa.StructArray.from_arrays([*left, counts.field("folded")], names=["events", "kept", "folded"]),
    }
    return _with(sequences, columns)


def _groups_of_events(sequences: pa.Table) -> np.ndarray:
    """The group of each event of all sequences, as a text; shape [events]."""
    kinds = pc.struct_field(pc.list_flatten(sequences["events"]), "event_type").to_numpy(zero_copy_only=False)
    asked = integers(pc.fill_null(sequences["loan"], 0))[row_of_items(sequences["events"])]
    loans = integers(pc.fill_null(pc.list_flatten(sequences["event_loans"]), 0))
    other = (asked > 0) & (loans > 0) & (loans != asked)
    prefixes = np.where(other, OTHER_LOANS, EVENTS)
    return np.array([f"{prefix}:{kind}" for prefix, kind in zip(prefixes, kinds, strict=True)], dtype=object)


def _profile_removals(sequences: pa.Table) -> Iterator[Removal]:
    profiles = [dict(profile or ()) for profile in sequences["profile"].to_pylist()]
    for key in sorted({key for profile in profiles for key in profile}):
        rows = np.array([row for row, profile in enumerate(profiles) if key in profile], dtype=np.int64)
        left = [[(name, value) for name, value in profiles[row].items() if name != key] for row in rows]
        column = pa.array(left, sequences.schema.field("profile").type)
        found = _with(sequences.take(pa.array(rows)), {"profile": column})
        yield Removal(group=f"{PROFILE}:{key}", rows=rows, sequences=found)


def _with(sequences: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, values in columns.items():
        place = sequences.column_names.index(name)
        sequences = sequences.set_column(place, sequences.schema.field(place), values)
    return sequences
