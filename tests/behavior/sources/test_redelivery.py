"""The fate of a delivered row, by what is published of the same event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.behavior.sources.redelivery import ARRIVED_ON, EVENTS, FATE, Terms, with_fates

NIGHT = Terms(
    first=date(2023, 3, 10),
    end=date(2023, 3, 11),
    frontier=None,
    timezone="Europe/Berlin",
    refuse=False,
    as_stated=False,
    by_arrival=False,
)
Stated = tuple[str, str]  # known_at, and the type of the event as its content
Fate = tuple[str, str, str]  # fate, known_at, content


@dataclass(frozen=True)
class Case:
    """Published and delivered versions of one event, and what becomes of the delivered ones."""

    name: str
    published: Sequence[Stated]
    delivered: Sequence[tuple[str, ...]]  # and the date of arrival, if the file has one
    expected: Sequence[Fate]


NIGHTLY = [
    Case("repeated", [("05 10:00", "a")], [("05 10:00", "a")], [("repetition", "10 00:00", "a")]),
    Case("changed", [("05 10:00", "a")], [("05 10:00", "b")], [("changed", "10 00:00", "b")]),
    Case("late", [], [("09 10:00", "a")], [("late", "10 00:00", "a")]),
    Case("new", [], [("10 10:00", "a")], [("new", "10 10:00", "a")]),
    Case("corrected later", [("05 10:00", "a")], [("10 12:00", "b")], [("new", "10 12:00", "b")]),
    Case(
        "all files so far are read again",
        [("05 10:00", "a"), ("08 00:00", "b")],
        [("05 10:00", "a"), ("05 10:00", "b")],
        [("repetition", "10 00:00", "a"), ("repetition", "10 00:00", "b")],
    ),
    Case(
        "changed back",
        [("05 10:00", "a"), ("08 00:00", "b")],
        [("05 10:00", "a")],
        [("changed", "10 00:00", "a")],
    ),
    Case(
        "two late versions",
        [],
        [("04 10:00", "a"), ("06 10:00", "b")],
        [("late", "10 00:00", "b"), ("superseded", "10 00:00", "a")],
    ),
    Case("delivered twice", [], [("10 09:00", "a")] * 2, [("duplicate", "10 09:00", "a"), ("new", "10 09:00", "a")]),
    Case(
        "a conflict next to the published row",
        [("05 10:00", "a")],
        [("05 10:00", "a"), ("05 10:00", "b")],
        [("changed", "10 00:00", "b"), ("repetition", "10 00:00", "a")],
    ),
    Case("changed on the same day", [("10 09:00", "a")], [("10 09:00", "b")], [("changed", "11 00:00", "b")]),
]
AGAIN = [  # the same night once more, after the nights up to the 15th
    Case(
        "delivered before",
        [("05 10:00", "a"), ("16 00:00", "b")],
        [("05 10:00", "b")],
        [("repetition", "10 00:00", "b")],
    ),
    Case(
        "equal to what was known then",
        [("10 00:00", "a"), ("15 00:00", "c")],
        [("05 10:00", "a")],
        [("repetition", "10 00:00", "a")],
    ),
    Case("changed", [("05 10:00", "a"), ("15 00:00", "c")], [("05 10:00", "b")], [("changed", "16 00:00", "b")]),
    Case("published later", [("14 00:00", "a")], [("09 10:00", "a")], [("repetition", "10 00:00", "a")]),
]
ARRIVED = [  # three nights at once, which had failed; later nights did not
    Case(
        "a night that was missing",
        [("05 10:00", "a"), ("15 00:00", "c")],
        [("05 10:00", "b", "2023-03-10")],
        [("changed", "10 00:00", "b")],
    ),
    Case(
        "changed and changed back",
        [("05 10:00", "a")],
        [("05 10:00", "b", "2023-03-11"), ("05 10:00", "a", "2023-03-12")],
        [("changed", "11 00:00", "b"), ("changed", "12 00:00", "a")],
    ),
]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"2023-03-{text}")


def events(spark: SparkSession, rows: Sequence[tuple[str, str, str, str | None]]) -> DataFrame:
    """Rows of behavior_events from event id, local known_at, content and arrival."""
    contract = table_contract("behavior_events")
    stated = spark.createDataFrame(
        [(i, moment(at), kind, day) for i, at, kind, day in rows], "i string, at timestamp, kind string, day string"
    )
    known = F.to_utc_timestamp("at", NIGHT.timezone)
    values = {"event_id": F.col("i"), "known_at": known, "event_type": F.col("kind"), "source": F.lit("bank")}
    values |= {
        "attributes": F.create_map().cast("map<string,string>"),
        "event_at": F.lit("2023-03-01").cast("timestamp"),
    }
    columns = [values.get(c.name, F.lit(None)).cast(c.type).alias(c.name) for c in contract.columns]
    return stated.select(*columns, F.col("day").cast("date").alias(ARRIVED_ON))


def fates(spark: SparkSession, cases: Sequence[Case], terms: Terms) -> dict[str, list[Fate]]:
    published = events(spark, [(case.name, at, kind, None) for case in cases for at, kind in case.published])
    delivered = events(
        spark, [(case.name, row[0], row[1], (*row, None)[2]) for case in cases for row in case.delivered]
    )
    rows = with_fates(delivered, published.drop(ARRIVED_ON), EVENTS, terms)
    local = F.date_format(F.from_utc_timestamp("known_at", terms.timezone), "dd HH:mm").alias("known")
    found: dict[str, list[Any]] = {case.name: [] for case in cases}
    for row in rows.select("event_id", FATE, local, "event_type").collect():
        found[row["event_id"]].append((row[FATE], row["known"], row["event_type"]))
    return {name: sorted(rows) for name, rows in found.items()}


@pytest.mark.parametrize(
    ("cases", "terms"),
    [
        (NIGHTLY, NIGHT),
        (AGAIN, replace(NIGHT, frontier=date(2023, 3, 16))),
        (ARRIVED, replace(NIGHT, end=date(2023, 3, 13), by_arrival=True)),
    ],
    ids=["a night", "a night again", "nights that were missing"],
)
def test_a_delivered_row_becomes_a_version_unless_it_is_known_and_never_one_of_the_past(
    spark: SparkSession, cases: Sequence[Case], terms: Terms
) -> None:
    assert fates(spark, cases, terms) == {case.name: sorted(case.expected) for case in cases}


def test_of_two_claims_under_one_key_the_same_one_is_kept_whatever_their_order(spark: SparkSession) -> None:
    rows = [("10 09:00", "a"), ("10 09:00", "b")]
    both = [fates(spark, [Case("x", [], order, [])], NIGHT)["x"] for order in (rows, rows[::-1])]
    assert both[0] == both[1]
    assert [fate for fate, *_ in both[0]] == ["conflicting_version", "new"]


def test_a_mapping_may_refuse_what_contradicts_the_published_row(spark: SparkSession) -> None:
    case = Case("x", [("05 10:00", "a")], [("05 10:00", "b"), ("09 10:00", "a")], [])
    found = fates(spark, [case], replace(NIGHT, refuse=True))["x"]
    assert found[0] == ("changed_redelivery", "10 00:00", "b")


def test_rows_without_time_or_identity_are_left_to_the_rules_of_the_contract(spark: SparkSession) -> None:
    rows = events(spark, [("x", "05 10:00", "a", None)] * 2)
    broken = rows.withColumn("event_id", F.lit(None).cast("string")).unionByName(
        rows.withColumn("known_at", F.lit(None).cast("timestamp"))
    )
    found = with_fates(broken, rows.drop(ARRIVED_ON).limit(0), EVENTS, NIGHT)
    assert [(row[FATE], row["known_at"]) for row in found.collect()] == [("new", None)] * 4
