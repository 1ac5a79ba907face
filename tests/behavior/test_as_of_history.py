"""Points, labels and sequences of random events equal a naive implementation, and the future changes no past row.

Hypothesis draws the log of each user; all users are cases of one Spark job.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from tests.support import naive_history as naive
from tests.support.drawn_logs import DATES, MAPPING, TIMEZONE, as_events, as_profiles
from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points
from zigong.behavior.sequences import timelines_before, user_sequences
from zigong.behavior.timeline import user_timelines
from zigong.recipe import Cohort, Horizon, Unit

Key = tuple[str, str, date]
USERS, LOAN_USERS, MANY_USERS, MAX_EVENTS = 1_000, 500, 10_000, 6
CUT = date(2023, 5, 1)
AS_OF = date(2023, 10, 15)
COHORT = {"min_history_months": 2, "max_months_since_last_event": 2, "max_days_past_due": 29}
HORIZONS = tuple(Horizon(window_months=months, dpd_threshold=dpd) for months in (1, 3) for dpd in (30, 60))


@dataclass(frozen=True, kw_only=True)
class World:
    """A log with its profiles, and what Spark makes of them: the log is grouped once, and every rule reads that."""

    unit: Unit
    users: list[str]
    log: list[naive.Version]
    profiles: list[naive.Profile]
    timelines: DataFrame
    points: DataFrame
    sequences: DataFrame


def built(
    spark: SparkSession, users: int, log: list[naive.Version], profiles: list[naive.Profile], unit: Unit = "user"
) -> World:
    timelines = user_timelines(as_events(spark, log), TIMEZONE).localCheckpoint()
    points = observation_points(
        timelines, dates=DATES, timezone=TIMEZONE, cohort=Cohort(**COHORT), mapping=MAPPING, population="c1", unit=unit
    ).localCheckpoint()
    sequences = user_sequences(timelines, as_profiles(spark, profiles), points, max_events=MAX_EVENTS, policy_id="p1")
    names = [f"u{number:05d}" for number in range(users)]
    return World(
        unit=unit,
        users=names,
        log=log,
        profiles=profiles,
        timelines=timelines,
        points=points,
        sequences=sequences.localCheckpoint(),
    )


def drawn(spark: SparkSession, users: int, unit: Unit = "user") -> World:
    return built(spark, users, naive.drawn_log(users), naive.random_profiles(users), unit)


@pytest.fixture(scope="module")
def world(spark: SparkSession) -> Iterator[World]:
    yield drawn(spark, USERS)


@pytest.fixture(scope="module")
def loans(spark: SparkSession) -> Iterator[World]:
    yield drawn(spark, LOAN_USERS, "loan")


def instant(value: datetime) -> int:
    return naive.micros(value.astimezone())


def rows_by_key(frame: DataFrame) -> dict[Key, dict[str, Any]]:
    rows = {
        (row["user_id"], row["loan_id"], row["observation_date"]): row.asDict(recursive=True) for row in frame.collect()
    }
    assert len(rows) == frame.count()
    return rows


def check_points(world: World) -> None:
    found, logs = rows_by_key(world.points), naive.by_user(world.log)
    expected = {}
    for user_id in world.users:
        for day in DATES:
            for loan_id in [None] if world.unit == "user" else sorted({loan or "" for loan in naive.LOANS}):
                row = naive.point(logs[user_id], user_id, day, COHORT, loan_id)
                if row is not None:
                    expected[user_id, loan_id or "", day] = row
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        seen = {name: found[key][name] for name in row} | {"last_event_at": instant(found[key]["last_event_at"])}
        assert seen == row, key
        assert instant(found[key]["observation_at"]) == naive.midnight(key[2])
    reasons = {row["reason"] for row in expected.values()} - ({"loan_unknown"} if world.unit == "loan" else set())
    assert reasons == {None, "no_history", "short_history", "stale", "loan_closed", "in_arrears"}


def check_labels(world: World) -> None:
    logs = naive.by_user(world.log)
    labels = performance_labels(
        world.timelines,
        world.points,
        horizons=HORIZONS,
        reporting_lag_days=3,
        as_of_date=AS_OF,
        timezone=TIMEZONE,
        mapping=MAPPING,
        label_settings="h1",
    )
    assert labels.columns == list(table_contract("performance_labels").column_names)
    found = labels.collect()
    eligible = [row for row in world.points.collect() if row["eligible"]]
    assert len(found) == len(eligible) * len(HORIZONS)
    for row in found:
        day, window = row["observation_date"], row["window_months"]
        expected = naive.label(
            logs[row["user_id"]], row["user_id"], day, window, row["dpd_threshold"], AS_OF, row["loan_id"]
        )
        assert (row["max_days_past_due"], row["months_observed"], row["outcome"]) == expected, row
        closes = naive.add_months(day, window)
        assert instant(row["matured_at"]) == naive.midnight(closes.replace(day=4))
    assert {row["outcome"] for row in found} == {"good", "bad", "indeterminate"}
    bad = {key_of(row) for row in found if row["outcome"] == "bad"}
    for user_id, loan_id, day, months, dpd in bad:  # a longer window or a lower threshold is never less bad
        assert bad >= {
            (user_id, loan_id, day, h.window_months, h.dpd_threshold)
            for h in HORIZONS
            if h.window_months >= months and h.dpd_threshold <= dpd
        }
    assert len({key[3:] for key in bad}) == len(HORIZONS)


def key_of(row: Row) -> tuple[str, str, date, int, int]:
    return row["user_id"], row["loan_id"], row["observation_date"], row["window_months"], row["dpd_threshold"]


def check_sequences(world: World) -> None:
    found, logs, profiles = rows_by_key(world.sequences), naive.by_user(world.log), profiles_by_user(world.profiles)
    assert found.keys() == {key for key, row in rows_by_key(world.points).items() if row["eligible"]}
    for (user_id, loan_id, day), row in found.items():
        rows = naive.history(logs[user_id], user_id, naive.midnight(day))
        kept = naive.kept(rows, MAX_EVENTS)
        seen = [(e["event_type"], instant(e["event_at"]), instant(e["known_at"])) for e in row["events"]]
        assert seen == [(v.event_type, v.event_at, v.known_at) for v in kept]
        assert [e["days_past_due"] for e in row["events"]] == [v.days_past_due for v in kept]
        assert [e["attributes"] for e in row["events"]] == [{"word": v.word} if v.word else {} for v in kept]
        known = naive.loans(rows)
        assert row["event_loans"] == [known.index(v.loan_id) + 1 if v.loan_id else None for v in kept]
        assert (row["loans"], row["loan"]) == (len(known), known.index(loan_id) + 1 if loan_id else None)
        assert row["counts"] == {"events": len(rows), "kept": len(kept), "folded": len(rows) - len(kept)}
        assert row["profile"] == naive.profile(profiles[user_id], user_id, naive.midnight(day))
        assert row["person_id"] == naive.person(profiles[user_id], user_id)
        assert row["certificate"]["events_hash"] == naive.events_hash(rows)
        assert row["certificate"]["events_used"] == len(rows)
        assert instant(row["certificate"]["max_event_at"]) == max(v.event_at for v in rows)
        assert instant(row["certificate"]["max_known_at"]) == max(v.known_at for v in rows)
    folded = [row["counts"]["folded"] for row in found.values()]
    assert 0 < sum(count > 0 for count in folded) < len(folded)
    assert len({row["sequence_id"] for row in found.values()}) == len(found)


def profiles_by_user(profiles: list[naive.Profile]) -> dict[str, list[naive.Profile]]:
    found: defaultdict[str, list[naive.Profile]] = defaultdict(list)
    for profile in profiles:
        found[profile.user_id].append(profile)
    return found


@pytest.mark.parametrize("check", [check_points, check_labels, check_sequences])
def test_spark_equals_the_naive_rules(world: World, check: Callable[[World], None]) -> None:
    check(world)


@pytest.mark.parametrize("check", [check_points, check_labels, check_sequences])
def test_points_labels_and_sequences_of_loans_equal_the_naive_rules(
    loans: World, check: Callable[[World], None]
) -> None:
    check(loans)


@pytest.mark.soak
def test_spark_equals_the_naive_rules_in_ten_times_as_many_cases(spark: SparkSession) -> None:
    world = drawn(spark, MANY_USERS)
    for check in (check_points, check_labels, check_sequences):
        check(world)


def test_events_known_or_happening_at_or_after_t_do_not_change_rows_of_t(spark: SparkSession, world: World) -> None:
    other = built(spark, USERS, other_future(world.log), other_profiles(world.profiles))
    for name in ("points", "sequences"):
        before = {key: row for key, row in rows_by_key(getattr(world, name)).items() if key[2] <= CUT}
        after = {key: row for key, row in rows_by_key(getattr(other, name)).items() if key[2] <= CUT}
        assert after == before
    assert rows_by_key(other.points) != rows_by_key(world.points)  # the futures do differ


def other_future(log: list[naive.Version]) -> list[naive.Version]:
    draw, cut = random.Random(1), naive.midnight(CUT)  # noqa: S311
    past = [version for version in log if version.known_at < cut]
    earliest: dict[tuple[str, str], int] = {}
    for version in past:
        key = (version.source, version.event_id)
        earliest[key] = min(earliest.get(key, version.event_at), version.event_at)
    past = [v for v in past if earliest[v.source, v.event_id] < cut or draw.random() < 0.5]
    known = [replace(v, known_at=cut + n, op="retract") for n, v in enumerate(past) if draw.random() < 0.3]
    invented = [
        replace(v, event_id=f"new-{n}", known_at=cut + draw.choice((0, naive.DAY)), days_past_due=99)
        for n, v in enumerate(past)
        if draw.random() < 0.3
    ]
    return [*past, *known, *invented]


def other_profiles(profiles: list[naive.Profile]) -> list[naive.Profile]:
    cut = naive.midnight(CUT)
    named = {p.user_id for p in profiles if p.person_id and p.known_at < cut}
    later = [naive.Profile(u, cut - naive.DAY, cut, "p-other", "later") for u in sorted(named)]
    unnamed = [p for p in profiles if p.known_at < cut or p.user_id not in named]
    return [*unnamed, *later]


def test_timelines_before_a_date_hold_complete_histories_of_all_users(spark: SparkSession, world: World) -> None:
    logs, profiles = naive.by_user(world.log), profiles_by_user(world.profiles)
    histories = timelines_before(world.timelines, as_profiles(spark, world.profiles), cutoff=CUT, timezone=TIMEZONE)
    found = histories.collect()
    expected = {u: rows for u in world.users if (rows := naive.history(logs[u], u, naive.midnight(CUT)))}
    assert {row["user_id"] for row in found} == expected.keys()
    for row in found:
        seen = [(e["event_type"], instant(e["event_at"])) for e in row["events"]]
        assert seen == [(v.event_type, v.event_at) for v in expected[row["user_id"]]]
        assert row["person_id"] == naive.person(profiles[row["user_id"]], row["user_id"])
        known = naive.loans(expected[row["user_id"]])
        assert row["loans"] == len(known)
        assert row["event_loans"] == [
            known.index(v.loan_id) + 1 if v.loan_id else None for v in expected[row["user_id"]]
        ]


@pytest.mark.parametrize("table", ["points", "sequences"])
def test_columns_and_types_are_those_of_the_contract(spark: SparkSession, world: World, table: str) -> None:
    contract = table_contract({"points": "observation_points", "sequences": "user_sequences"}[table])
    frame = getattr(world, table)
    assert dict(frame.dtypes) == dict(spark.createDataFrame([], contract.ddl).dtypes)
    assert frame.columns == list(contract.column_names)
    for rule in contract.row_rules:
        assert frame.where(~F.expr(rule.condition)).count() == 0, rule.name
