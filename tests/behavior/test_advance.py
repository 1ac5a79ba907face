"""Advancing a state and rebuilding only affected users both equal a full build, row for row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.support import naive_history as naive
from tests.support.drawn_logs import DATES, TIMEZONE, as_events, as_profiles, corrected
from tests.support.rows import texts
from zigong.behavior.advance import advanced_timelines, timelines_of
from zigong.behavior.changes import differing_rows, touched_points, users_always, users_of_changes
from zigong.behavior.observation import NO_LOAN
from zigong.behavior.sequences import user_sequences
from zigong.behavior.timeline import user_timelines
from zigong.lakehouse.business_time import local_midnight

USERS, MANY_USERS, MAX_EVENTS = 250, 10_000, 6
MIXING = {"spark.sql.execution.useObjectHashAggregateExec": "true", "spark.sql.shuffle.partitions": "1"}
PLACE = ("user_id", "observation_date", "user_bucket")


@dataclass(frozen=True, kw_only=True)
class World:
    """Events before and after their source corrected ten days."""

    log: list[naive.Version]
    events: DataFrame
    corrected: DataFrame
    profiles: DataFrame


def drawn(spark: SparkSession, users: int) -> World:
    log = naive.drawn_log(users)
    return World(
        log=log,
        events=as_events(spark, log).localCheckpoint(),
        corrected=as_events(spark, corrected(log)).localCheckpoint(),
        profiles=as_profiles(spark, naive.random_profiles(users)).localCheckpoint(),
    )


@pytest.fixture(scope="module")
def world(spark: SparkSession) -> Iterator[World]:
    yield drawn(spark, USERS)


def before(events: DataFrame, day: date) -> DataFrame:
    return events.where(F.col("known_at") < local_midnight(F.lit(day), TIMEZONE))


def arrived(events: DataFrame, first: date, end: date) -> DataFrame:
    return before(events, end).where(F.col("known_at") >= local_midnight(F.lit(first), TIMEZONE))


def check_advance(world: World) -> None:
    """Advances the state date by date and compares the last one with a full build."""
    state = user_timelines(before(world.events, DATES[0]), TIMEZONE).localCheckpoint()
    for first, end in pairwise(DATES):
        state = advanced_timelines(state, arrived(world.events, first, end), TIMEZONE).localCheckpoint()
    assert texts(state) == texts(user_timelines(before(world.events, DATES[-1]), TIMEZONE))


def test_states_advanced_date_by_date_equal_timelines_of_all_events(world: World) -> None:
    check_advance(world)
    moved = moved_between_users(world.log)
    assert moved > 20, "no correction moved an event to another user"


def test_timelines_are_sorted_with_every_aggregate(spark: SparkSession, world: World) -> None:
    """Spark's object hash aggregate loses the order of rows after 128 users."""
    wanted = texts(user_timelines(world.events, TIMEZONE))
    former = {name: spark.conf.get(name) for name in MIXING}
    for name, value in MIXING.items():
        spark.conf.set(name, value)
    try:
        assert texts(user_timelines(world.events, TIMEZONE)) == wanted
        collected = world.events.groupBy("user_id").agg(F.collect_list("event_at"))
        assert "ObjectHashAggregate" in str(collected._jdf.queryExecution().executedPlan())
    finally:
        for name, value in former.items():
            spark.conf.set(name, value)


def moved_between_users(log: list[naive.Version]) -> int:
    owners: dict[tuple[str, str], set[str]] = {}
    for version in log:
        owners.setdefault((version.source, version.event_id), set()).add(version.user_id)
    return sum(len(found) > 1 for found in owners.values())


def test_a_state_serves_every_earlier_date(spark: SparkSession, world: World) -> None:
    state = user_timelines(before(world.events, DATES[-1]), TIMEZONE)
    points = all_points(world)
    early = points.where(F.col("observation_date") == F.lit(DATES[1]))
    full = user_timelines(before(world.events, DATES[1]), TIMEZONE)
    assert texts(sequences(state, world.profiles, early)) == texts(sequences(full, world.profiles, early))


def sequences(timelines: DataFrame, profiles: DataFrame, points: DataFrame) -> DataFrame:
    built = user_sequences(timelines, profiles, points, max_events=MAX_EVENTS, policy_id="p")
    return built.where("counts.events > 0")


def all_points(world: World) -> DataFrame:
    """Every user at every date."""
    users = world.events.select("user_id", "user_bucket").distinct()
    days = F.explode(F.array(*(F.lit(day) for day in DATES))).alias("observation_date")
    whole = (F.lit("p").alias("population"), F.lit(NO_LOAN).alias("loan_id"), F.lit(True).alias("eligible"))
    points = users.select("user_id", "user_bucket", *whole, days)
    return points.withColumn("observation_at", local_midnight(F.col("observation_date"), TIMEZONE))


def check_rebuild(world: World) -> None:
    """Published rows of unaffected points and rebuilt rows of affected ones equal a full build of corrected events."""
    points = all_points(world).localCheckpoint()
    published = sequences(user_timelines(world.events, TIMEZONE), world.profiles, points).localCheckpoint()
    full = sequences(user_timelines(world.corrected, TIMEZONE), world.profiles, points).localCheckpoint()
    changed = differing_rows(world.events, world.corrected, at_most=10**9)
    assert changed is not None
    users = users_of_changes(changed.localCheckpoint(), world.corrected).localCheckpoint()
    touched = touched_points(users, points.select(*PLACE), DATES, TIMEZONE).localCheckpoint()
    assert not touched.where(F.col("observation_date") <= F.lit(date(2023, 4, 1))).count()
    assert 0 < touched.count() < points.count() / 2
    theirs = points.join(touched, ["user_id", "observation_date"], "left_semi")
    rebuilt = sequences(timelines_of(world.corrected, users, TIMEZONE), world.profiles, theirs)
    others = published.join(touched.select(*PLACE[:2]), list(PLACE[:2]), "left_anti")
    assert texts(rebuilt.unionByName(others)) == texts(full) != texts(published)


@pytest.mark.soak
def test_rebuilding_affected_points_equals_a_full_build_of_the_corrected_events(world: World) -> None:
    check_rebuild(world)


@pytest.mark.soak
def test_advancing_and_rebuilding_hold_for_many_more_users(spark: SparkSession) -> None:
    many = drawn(spark, MANY_USERS)
    check_advance(many)
    check_rebuild(many)


def test_rewritten_files_with_equal_rows_do_not_differ(world: World) -> None:
    same = differing_rows(world.events, world.events.repartition(3, "event_id"), at_most=0)
    assert same is not None
    assert same.isEmpty()


def test_more_differing_rows_than_the_limit_are_not_returned(world: World) -> None:
    assert differing_rows(world.events, world.events.limit(5), at_most=10) is None


def test_a_changed_profile_affects_every_date(spark: SparkSession, world: World) -> None:
    users = users_always(world.profiles.limit(1))
    touched = touched_points(users, all_points(world).select(*PLACE), DATES, TIMEZONE)
    assert {row["observation_date"] for row in touched.collect()} == set(DATES)
