"""Rows of user_sequences for the tests of features and baselines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

EVENT = pa.struct(
    {
        "event_type": pa.string(),
        "event_at": pa.timestamp("us", tz="UTC"),
        "known_at": pa.timestamp("us", tz="UTC"),
        "amount": pa.decimal128(18, 2),
        "currency": pa.string(),
        "days_past_due": pa.int32(),
        "attributes": pa.map_(pa.string(), pa.string()),
    }
)
SCHEMA = pa.schema(
    {
        "observation_at": pa.timestamp("us", tz="UTC"),
        "profile": pa.map_(pa.string(), pa.string()),
        "counts": pa.struct({"events": pa.int32(), "kept": pa.int32(), "folded": pa.int32()}),
        "events": pa.list_(EVENT),
        "event_loans": pa.list_(pa.int32()),
        "loans": pa.int32(),
        "loan": pa.int32(),
    }
)
Event = dict[str, Any]
Row = tuple[datetime, dict[str, str], list[Event]]
OUTCOMES = ("on_time", "late")
SHANGHAI = "Asia/Shanghai"


def make_event(kind: str, at: datetime, dpd: int | None = None, amount: str | None = None) -> Event:
    return {
        "event_type": kind,
        "event_at": at,
        "known_at": at,
        "amount": Decimal(amount) if amount else None,
        "currency": "CNY" if amount else None,
        "days_past_due": dpd,
        "attributes": [],
    }


def sequence_table(rows: list[Row]) -> pa.Table:
    items = [
        {
            "observation_at": t,
            "profile": list(p.items()),
            "counts": {"events": len(e) + 5, "kept": len(e), "folded": 5},
            "events": e,
            "event_loans": [item.get("loan") for item in e],
            "loans": 0,
        }
        for t, p, e in rows
    ]
    return pa.Table.from_pylist(items, schema=SCHEMA)


def random_rows(seed: int, users: int) -> list[Row]:
    """Clients whose next default depends on their number of recent late payments; the profile is noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        risk = rng.random()
        t = datetime(2024, int(rng.integers(1, 4)), 1, tzinfo=ZoneInfo(SHANGHAI)).astimezone(UTC)
        events = []
        for day in sorted(rng.integers(1, 500, size=int(rng.integers(0, 30))), reverse=True):
            kind = str(rng.choice(["on_time", "late", "call", "loan"], p=[0.6 - risk / 2, risk / 2, 0.2, 0.2]))
            dpd = int(rng.integers(1, 60)) if kind == "late" else 0 if kind == "on_time" else None
            amount = f"{rng.integers(100, 9000) / 100:.2f}" if kind == "loan" else None
            events.append(make_event(kind, t - timedelta(days=int(day), seconds=1), dpd, amount))
        profile = {"city": str(rng.choice(["A", "B"])), "income": str(int(rng.integers(1000, 9000)))}
        rows.append((t, {} if rng.random() < 0.1 else profile, events))
    return rows
