"""Histories without one group of events or one field of the profile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from tests.support.sequence_rows import SCHEMA, make_event
from zigong.evaluation.removal import removals, without_events

T = datetime(2024, 3, 1, tzinfo=UTC)


def sequence(profile: dict[str, str], events: list[tuple[str, int | None]], loan: int | None) -> dict[str, Any]:
    numbers = [number for _, number in events]
    return {
        "observation_at": T,
        "profile": list(profile.items()),
        "counts": {"events": len(events) + 2, "kept": len(events), "folded": 2},
        "events": [make_event(kind, T - timedelta(days=30 - day)) for day, (kind, _) in enumerate(events)],
        "event_loans": numbers,
        "loans": len({number for number in numbers if number}),
        "loan": loan,
    }


SEQUENCES = pa.Table.from_pylist(
    [
        sequence({"city": "A"}, [("late", 1), ("paid", 2), ("late", 2), ("call", None), ("late", 1)], loan=2),
        sequence({}, [], loan=None),
        sequence({"city": "B", "job": "C"}, [("late", None), ("paid", 1)], loan=None),
    ],
    schema=SCHEMA,
)


def shown(row: dict[str, Any]) -> list[tuple[str, int | None]]:
    return list(zip([event["event_type"] for event in row["events"]], row["event_loans"], strict=True))


def test_every_group_is_removed_from_the_sequences_that_have_it_and_nothing_else_changes() -> None:
    found = {removal.group: (removal.rows.tolist(), removal.sequences.to_pylist()) for removal in removals(SEQUENCES)}
    assert {group: rows for group, (rows, _) in found.items()} == {
        "events:call": [0],
        "events:late": [0, 2],
        "events:paid": [0, 2],
        "other_loans:late": [0],
        "profile:city": [0, 2],
        "profile:job": [2],
    }
    (own, client), (other,) = found["events:late"][1], found["other_loans:late"][1]
    assert shown(own) == [("late", 1), ("paid", 2), ("call", None), ("late", 1)]
    assert shown(client) == [("paid", 1)]
    assert shown(other) == [("paid", 2), ("late", 2), ("call", None)]
    assert (own["counts"], other["counts"]) == (
        {"events": 6, "kept": 4, "folded": 2},
        {"events": 5, "kept": 3, "folded": 2},
    )
    assert [row["profile"] for row in found["profile:city"][1]] == [[], [("job", "C")]]
    untouched = SEQUENCES.to_pylist()
    for group, (rows, left) in found.items():
        changed = ("profile",) if group.startswith("profile") else ("events", "event_loans", "counts")
        for row, sequence_left in zip(rows, left, strict=True):
            assert {**sequence_left, **{name: untouched[row][name] for name in changed}} == untouched[row]


def test_nothing_removed_leaves_the_sequences_as_they_are() -> None:
    assert without_events(SEQUENCES, np.zeros(7, dtype=bool)).equals(SEQUENCES.combine_chunks())
