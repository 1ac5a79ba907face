"""Bins for tests, and events that hold numbers of every field."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np

from zigong.instructions.numbers import FieldBins, Kind, NumberWords

QUANTILES = 4


def bins(kind: Kind, name: str = "", *above: str, below: tuple[str, ...] = (), currency: str = "") -> FieldBins:
    """Bins with these bounds."""
    return FieldBins(
        kind=kind,
        name=name,
        currency=currency,
        above=tuple(map(Decimal, above)),
        below=tuple(map(Decimal, below)),
    )


FITTED = NumberWords(
    fields=(
        bins("amount", "order", "100", "250.50", "9000", below=("0.01", "300")),
        bins("amount", "order", "10", currency="USD"),
        bins("attribute", "ratio", "0.25", "0.5", below=("1",)),
        bins("days_past_due", "", "1", "29"),
        bins("profile", "age", "30", "60"),
    )
)


def with_numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sequences whose events, and whose profiles, also have numbers at and around the bounds of FITTED."""
    chance = random.Random(1)  # noqa: S311
    amounts = [Decimal(text) for text in ("0", "100", "100.01", "250.5", "250.51", "-0.01", "-0.02", "-300", "-301")]
    ratios = ("0.25", "0.250001", "-1", "-2", "0", "-0.0", "007", "high", "")
    for row in rows:
        row["profile"] = {**row["profile"], "age": chance.choice(("30", "31", "-4", "0", "old"))}
        for event in row["events"]:
            if chance.random() < 0.7:
                event["event_type"], event["amount"] = "order", chance.choice(amounts)
                event["days_past_due"] = chance.choice((None, 0, 1, 2, 29, 30, -1))
                event["attributes"] = {"ratio": chance.choice(ratios), "shop": "7"}
    return rows


def expected_bounds(values: np.ndarray[Any, Any], quantiles: int) -> Any:
    """Upper bounds of the bins, the last one open, by numpy."""
    distinct = np.unique(values)
    if len(distinct) <= quantiles:
        return distinct[:-1].tolist()
    shares = np.arange(1, quantiles) / quantiles
    bounds = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return bounds[bounds < distinct[-1]].tolist()
