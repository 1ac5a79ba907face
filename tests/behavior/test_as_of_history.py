"""Points, labels and sequences of random logs equal plain loops over the rules, and the future changes no past row."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import astuple, replace
from datetime import date, datetime
from types import SimpleNamespace

import naive_history as naive
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from schemas.mappings import parse_mapping
from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points
from zigong.behavior.sequences import timelines_before, user_sequences
from zigong.recipe import Cohort, Horizon

USERS, SEED, MAX_EVENTS, TIMEZONE = 250, 5, 6, "Europe/Berlin"
DATES = [date(2023, month, 1) for month in (2, 4, 5, 8, 11)]
CUT = date(2023, 5, 1)
AS_OF = date(2023, 10, 15)
COHORT = {"min_history_months": 2, "max_months_since_last_event": 2, "max_days_past_due": 29}
HORIZONS = (Horizon(window_months=1, dpd_threshold=30), Horizon(window_months=3, dpd_threshold=60))
MAPPING = parse_mapping(
    """
    {name: toy, data: private, title: toy, files: {}, events: SELECT 1, profiles: SELECT 1,
     known_at: {column: known_at}, outcome_events: [statement, closed], closing_events: [closed]}
    """,
    origin="toy",
)


def as_events(spark: SparkSession, log: list[naive.Version]) -> DataFrame:
    columns = "source string, event_id string, known string, op string, user_id string, event_type string, "
    rows = [(*astuple(v)[:2], str(v.known_at), *astuple(v)[3:6], str(v.event_at), *astuple(v)[7:]) for v in log]
    frame = spark.createDataFrame(rows, columns + "event string, days_past_due int, word string").repartition(4)
    return frame.select(
        "source",
        "event_id",
        F.timestamp_micros(F.col("known").cast("bigint")).alias("known_at"),
        "op",
        "user_id",
        F.lit(0).alias("user_bucket"),
        F.lit(None).cast("string").alias("loan_id"),
        "event_type",
        F.timestamp_micros(F.col("event").cast("bigint")).alias("event_at"),
        F.lit("measured").alias("known_at_basis"),
        F.lit(None).cast("decimal(18,2)").alias("amount"),
        F.lit(None).cast("string").alias("currency"),
        "days_past_due",
        F.map_filter(F.create_map(F.lit("word"), "word"), lambda _, word: word.isNotNull()).alias("attributes"),
    )


def as_profiles(spark: SparkSession, profiles: list[naive.Profile]) -> DataFrame:
    frame = spark.createDataFrame(
        [astuple(p) for p in profiles], "user_id string, v bigint, k bigint, person_id string, word string"
    )
    return frame.select(
        F.lit("core").alias("source"),
        "user_id",
        F.timestamp_micros("v").alias("valid_from"),
        F.timestamp_micros("k").alias("known_at"),
        "person_id",
        F.create_map(F.lit("word"), "word").alias("attributes"),
    )


def built(
    spark: SparkSession, log: list[naive.Version], profiles: list[naive.Profile], dates: list[date]
) -> SimpleNamespace:
    events = as_events(spark, log).localCheckpoint()
    points = observation_points(
        events, dates=dates, timezone=TIMEZONE, cohort=Cohort(**COHORT), mapping=MAPPING
    ).localCheckpoint()
    sequences = user_sequences(
        events, as_profiles(spark, profiles), points, max_events=MAX_EVENTS, policy_id="p1", timezone=TIMEZONE
    )
    return SimpleNamespace(events=events, points=points, sequences=sequences.localCheckpoint())


@pytest.fixture(scope="module")
def log() -> list[naive.Version]:
    return naive.random_log(SEED, USERS)


@pytest.fixture(scope="module")
def profiles() -> list[naive.Profile]:
    return naive.random_profiles(SEED, USERS)


@pytest.fixture(scope="module")
def world(spark: SparkSession, log: list[naive.Version], profiles: list[naive.Profile]) -> Iterator[SimpleNamespace]:
    yield built(spark, log, profiles, DATES)


def instant(value: datetime) -> int:
    return naive.micros(value.astimezone())


def rows_by_key(frame: DataFrame) -> dict[tuple[str, date], dict[str, object]]:
    rows = {(row["user_id"], row["observation_date"]): row.asDict(recursive=True) for row in frame.collect()}
    assert len(rows) == frame.count()
    return rows


def test_points_equal_the_naive_rules(world: SimpleNamespace, log: list[naive.Version]) -> None:
    found = rows_by_key(world.points)
    expected = {}
    for user in range(USERS):
        for day in DATES:
            row = naive.point(log, f"u{user:03d}", day, COHORT)
            if row is not None:
                expected[f"u{user:03d}", day] = row
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        seen = {name: found[key][name] for name in row} | {"last_event_at": instant(found[key]["last_event_at"])}
        assert seen == row, key
        assert instant(found[key]["observation_at"]) == naive.midnight(key[1])
    reasons = {row["reason"] for row in expected.values()}
    assert reasons == {None, "no_history", "short_history", "stale", "loan_closed", "in_arrears"}


def test_labels_equal_the_naive_rules_for_every_horizon(world: SimpleNamespace, log: list[naive.Version]) -> None:
    labels = performance_labels(
        world.events,
        world.points,
        horizons=HORIZONS,
        reporting_lag_days=3,
        as_of_date=AS_OF,
        timezone=TIMEZONE,
        mapping=MAPPING,
    )
    assert labels.columns == list(table_contract("performance_labels").column_names)
    found = labels.collect()
    eligible = [row for row in world.points.collect() if row["eligible"]]
    assert len(found) == len(eligible) * len(HORIZONS)
    for row in found:
        day, window = row["observation_date"], row["window_months"]
        expected = naive.label(log, row["user_id"], day, window, row["dpd_threshold"], AS_OF)
        assert (row["max_days_past_due"], row["months_observed"], row["outcome"]) == expected, row
        closes = naive.add_months(day, window)
        assert instant(row["matured_at"]) == naive.midnight(closes.replace(day=4))
    assert {row["outcome"] for row in found} == {"good", "bad", "indeterminate"}


def test_sequences_equal_the_naive_rules(
    world: SimpleNamespace, log: list[naive.Version], profiles: list[naive.Profile]
) -> None:
    found = rows_by_key(world.sequences)
    assert found.keys() == {(r["user_id"], r["observation_date"]) for r in world.points.collect() if r["eligible"]}
    for (user_id, day), row in found.items():
        rows = naive.history(log, user_id, naive.midnight(day))
        kept = naive.kept(rows, MAX_EVENTS)
        seen = [(e["event_type"], instant(e["event_at"]), instant(e["known_at"])) for e in row["events"]]
        assert seen == [(v.event_type, v.event_at, v.known_at) for v in kept]
        assert [e["days_past_due"] for e in row["events"]] == [v.days_past_due for v in kept]
        assert [e["attributes"] for e in row["events"]] == [{"word": v.word} if v.word else {} for v in kept]
        assert row["counts"] == {"events": len(rows), "kept": len(kept), "folded": len(rows) - len(kept)}
        assert row["profile"] == naive.profile(profiles, user_id, naive.midnight(day))
        assert row["person_id"] == naive.person(profiles, user_id)
        assert row["certificate"]["events_hash"] == naive.events_hash(rows)
        assert row["certificate"]["events_used"] == len(rows)
        assert instant(row["certificate"]["max_event_at"]) == max(v.event_at for v in rows)
        assert instant(row["certificate"]["max_known_at"]) == max(v.known_at for v in rows)
    folded = [row["counts"]["folded"] for row in found.values()]
    assert 0 < sum(count > 0 for count in folded) < len(folded)
    assert len({row["sequence_id"] for row in found.values()}) == len(found)


def test_nothing_known_or_happening_from_t_on_changes_a_row_of_t(
    spark: SparkSession, world: SimpleNamespace, log: list[naive.Version], profiles: list[naive.Profile]
) -> None:
    other = built(spark, other_future(log), [*other_profiles(profiles)], DATES)
    for name in ("points", "sequences"):
        before = {key: row for key, row in rows_by_key(getattr(world, name)).items() if key[1] <= CUT}
        after = {key: row for key, row in rows_by_key(getattr(other, name)).items() if key[1] <= CUT}
        assert after == before
    assert rows_by_key(other.points) != rows_by_key(world.points)  # the futures do differ


def other_future(log: list[naive.Version]) -> list[naive.Version]:
    draw, cut = random.Random(1), naive.midnight(CUT)  # noqa: S311
    past = [version for version in log if version.known_at < cut]
    earliest = {}
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


def test_timelines_before_a_date_hold_whole_histories_of_all_users(
    spark: SparkSession, world: SimpleNamespace, log: list[naive.Version], profiles: list[naive.Profile]
) -> None:
    found = timelines_before(world.events, as_profiles(spark, profiles), cutoff=CUT, timezone=TIMEZONE).collect()
    expected = {
        user: rows
        for user in (f"u{n:03d}" for n in range(USERS))
        if (rows := naive.history(log, user, naive.midnight(CUT)))
    }
    assert {row["user_id"] for row in found} == expected.keys()
    for row in found:
        seen = [(e["event_type"], instant(e["event_at"])) for e in row["events"]]
        assert seen == [(v.event_type, v.event_at) for v in expected[row["user_id"]]]
        assert row["person_id"] == naive.person(profiles, row["user_id"])


@pytest.mark.parametrize("table", ["points", "sequences"])
def test_columns_and_types_are_those_of_the_contract(spark: SparkSession, world: SimpleNamespace, table: str) -> None:
    contract = table_contract({"points": "observation_points", "sequences": "user_sequences"}[table])
    frame = getattr(world, table)
    assert dict(frame.dtypes) == dict(spark.createDataFrame([], contract.ddl).dtypes)
    assert frame.columns == list(contract.column_names)
    for rule in contract.row_rules:
        assert frame.where(~F.expr(rule.condition)).count() == 0, rule.name
