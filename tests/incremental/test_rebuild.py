"""Jobs that reuse earlier results give the same rows as full builds, and rewrite no more than necessary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.spark_metrics import watched
from jobs.build_labels import build_labels
from jobs.build_sequences import build_sequences
from schemas.contracts import table_contract
from tests.support import naive_history as naive
from tests.support.drawn_logs import FIXED, MAPPING, as_events, as_profiles, corrected
from tests.support.finished import TINY
from tests.support.rows import texts
from zigong.behavior.observation import observation_points
from zigong.behavior.sequences import user_sequences
from zigong.behavior.timeline import user_timelines
from zigong.incremental import sequences as incremental
from zigong.incremental.sequences import history_policy
from zigong.incremental.touched import RebuildPlan, plan_rebuild
from zigong.lakehouse.business_time import local_date
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.lineage import Lineage, Partition, changed_partitions
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version, open_pinned
from zigong.recipe import Cohort, load_recipe
from zigong.recipe.population import population_of
from zigong.runs.dates import Dates
from zigong.runs.job import Job
from zigong.runs.run import open_run

TABLE, LOG = "user_sequences", ("behavior_events",)
STEPS = (build_labels, build_sequences)
SOURCE = "simulated"  # of tests/tiny.yaml
ZONE, BUCKETS, USERS, KEPT = "Asia/Shanghai", 4, 200, 6
CORRECTED_USERS = 8  # few enough that an incremental build stays cheaper for any random log
MARCH, APRIL, MAY, JUNE, AUGUST = (date(2023, month, 1) for month in (3, 4, 5, 6, 8))
CORRECTED_DAYS = "known_date >= DATE'2023-04-08' AND known_date < DATE'2023-04-23'"


@dataclass(kw_only=True)
class Lake:
    """A lakehouse whose events grow and are corrected, and the jobs that build sequences from it."""

    spark: SparkSession
    paths: LakehousePaths
    log: list[naive.Version]
    events: DataFrame = field(init=False)
    learnt: date = date(2022, 1, 1)

    def __post_init__(self) -> None:
        self.events = self.placed(self.log)
        self.put(
            "user_profiles",
            as_profiles(self.spark, naive.random_profiles(USERS)).withColumn("source", F.lit(SOURCE)),
            "true",
        )

    def placed(self, log: list[naive.Version]) -> DataFrame:
        frame = as_events(self.spark, log).withColumn("user_bucket", F.pmod(F.hash("user_id"), F.lit(BUCKETS)))
        frame = frame.withColumn("source", F.lit(SOURCE))
        return frame.withColumn("known_date", local_date(F.col("known_at"), ZONE)).localCheckpoint()

    def put(self, table: str, frame: DataFrame, where: str) -> None:
        contract = table_contract(table)
        create_if_missing(self.paths, contract)
        rows = frame.select(*contract.column_names).where(where).coalesce(1)
        target = self.paths.table(table)
        rows.write.format("delta").mode("overwrite").option("replaceWhere", where).save(target)

    def learn(self, until: date, *days: date) -> None:
        """Ingests the events known since the last call and before a date, and computes points at some dates."""
        self.put("behavior_events", self.events, f"known_date >= DATE'{self.learnt}' AND known_date < DATE'{until}'")
        self.learnt = until
        known = self.events.where(f"known_date < DATE'{until}'")
        cohort = Cohort(min_history_months=1, open_loan=False)
        points = observation_points(
            user_timelines(known, ZONE),
            dates=days,
            timezone=ZONE,
            cohort=cohort,
            mapping=MAPPING,
            population=population_of(load_recipe(TINY)),
        )
        self.put("observation_points", points, "true")

    def correct(self, users: int = CORRECTED_USERS) -> None:
        """Replaces the events of some days by corrected ones, for at most so many of the users who have some there."""
        there = {version.user_id for version in self.log if FIXED[0] <= version.known_at < FIXED[1]}
        chosen = set(sorted(there)[:users])
        theirs = [version for version in self.log if version.user_id in chosen]
        others = [version for version in self.log if version.user_id not in chosen]
        self.put("behavior_events", self.placed([*others, *corrected(theirs)]), CORRECTED_DAYS)

    def job(self, run_id: str, *, full: bool, max_events: int) -> Job:
        settings = [
            f"lakehouse.root={self.paths.root}",
            f"engine.incremental={str(not full).lower()}",
            f"instructions.max_events={max_events}",
        ]
        run = open_run(load_recipe(TINY, settings), Path(self.paths.local("_runs")), run_id)
        return Job(step="build_sequences", run=run, paths=self.paths)

    def build(self, run_id: str, end: date, *, full: bool = False, max_events: int = KEPT) -> None:
        job = self.job(run_id, full=full, max_events=max_events)
        job.dates = Dates(first=MARCH, end=end)
        build_sequences(job)

    def run_step(self, run_id: str, body: Callable[[Job], None]) -> None:
        """Runs a step without ``engine.incremental``, for all dates of the recipe."""
        job = self.job(run_id, full=True, max_events=KEPT)
        job.step = body.__name__
        body(job)

    def sequences(self) -> list[str]:
        return texts(self.newest(TABLE))

    def newest(self, table: str) -> DataFrame:
        return open_pinned(self.spark, self.paths, table, latest_version(self.paths, table))

    def expected(self, end: date) -> list[str]:
        """The rows of a full build from all events."""
        points = self.newest("observation_points").where(F.col("observation_date") < F.lit(end))
        timelines, profiles = user_timelines(self.newest("behavior_events"), ZONE), self.newest("user_profiles")
        policy = history_policy(KEPT)
        return texts(user_sequences(timelines, profiles, points, max_events=KEPT, policy_id=policy))

    def rewritten(self, before: int) -> set[Partition]:
        return set(changed_partitions(self.paths, TABLE, before, latest_version(self.paths, TABLE)))


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[Lake]:
    yield Lake(spark=spark, paths=LakehousePaths.at(str(tmp_path)), log=naive.drawn_log(USERS))


@pytest.mark.soak
def test_labels_and_sequences_of_one_run_group_the_events_once(lake: Lake) -> None:
    lake.learn(date(2023, 8, 20), MARCH)

    works = [watched(lake.spark, partial(lake.run_step, "run", step), tables=LOG) for step in STEPS]

    labels, sequences = (work.scanned["behavior_events"] for work in works)
    assert 0 < labels <= 3 * lake.newest("behavior_events").count()  # corrected events are found first, then read
    assert sequences == 0
    assert len(lake.newest("observation_points").select("observation_date").distinct().collect()) == 5
    assert lake.sequences() == lake.expected(date(2023, 9, 1))


@pytest.mark.soak
def test_timelines_of_another_event_version_are_never_read(lake: Lake) -> None:
    lake.learn(date(2023, 8, 20), MARCH)
    lake.run_step("ours", build_labels)
    points, expected = lake.newest("observation_points"), lake.expected(date(2023, 9, 1))
    lake.correct(users=USERS)  # of a few, none may be eligible at the recipe's dates
    lake.run_step("theirs", build_labels)
    assert texts(lake.newest("observation_points")) != texts(points)

    lake.run_step("ours", build_sequences)
    assert lake.sequences() == expected
    lake.run_step("theirs", build_sequences)
    assert lake.sequences() == lake.expected(date(2023, 9, 1)) != expected


@pytest.mark.soak
def test_a_new_date_and_a_corrected_partition_equal_full_builds(lake: Lake) -> None:
    lake.learn(date(2023, 5, 2), MARCH, APRIL, MAY)
    lake.build("first", JUNE)
    lake.learn(date(2023, 6, 20), MARCH, APRIL, MAY, JUNE)

    work = watched(lake.spark, lambda: lake.build("next", date(2023, 6, 2)), tables=LOG)

    new = lake.events.where("known_date >= DATE'2023-05-02' AND known_date < DATE'2023-06-20'").count()
    assert 0 < work.scanned["behavior_events"] <= 2 * new
    assert lake.sequences() == lake.expected(date(2023, 6, 2))

    lake.correct()
    before = latest_version(lake.paths, TABLE)
    lake.build("corrected", date(2023, 6, 2))
    rewritten = lake.rewritten(before)
    assert {cell["observation_date"] for cell in rewritten} == {str(MAY), str(JUNE)}  # not visible at earlier T
    assert lake.sequences() == lake.expected(date(2023, 6, 2))


@pytest.mark.soak
def test_rewritten_files_with_the_same_rows_publish_nothing(lake: Lake) -> None:
    lake.learn(date(2023, 5, 2), MARCH, APRIL, MAY)
    lake.build("first", JUNE)
    lake.put("behavior_events", lake.events, CORRECTED_DAYS)
    before = latest_version(lake.paths, TABLE)

    lake.build("same", JUNE)

    assert latest_version(lake.paths, TABLE) == before
    assert lake.sequences() == lake.expected(JUNE)


@pytest.mark.soak
def test_a_stale_state_is_updated_before_use(lake: Lake) -> None:
    lake.learn(date(2023, 6, 2), MARCH, APRIL, MAY, JUNE)
    lake.build("first", date(2023, 6, 2))
    lake.learn(date(2023, 11, 2), MARCH, APRIL, MAY, JUNE, AUGUST)
    lake.correct()

    lake.build("next", date(2023, 8, 2))

    assert lake.sequences() == lake.expected(date(2023, 8, 2))


@pytest.mark.soak
def test_a_concurrent_commit_after_the_read_restarts_the_build(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.learn(date(2023, 6, 2), MARCH, APRIL, MAY, JUNE)
    lake.build("first", date(2023, 6, 2))
    lake.correct()
    plan, plans = plan_rebuild, []

    def overtaken(job: Job, table: str, due: Lineage) -> RebuildPlan:
        plans.append(plan(job, table, due))
        if len(plans) == 1:  # another run publishes the same partitions, with fewer kept events, after this read
            lake.build("other", date(2023, 6, 2), full=True, max_events=2)
        return plans[-1]

    monkeypatch.setattr(incremental, "plan_rebuild", overtaken)
    lake.build("ours", date(2023, 6, 2))

    assert len(plans) == 2
    assert plans[0].touched is not None
    assert lake.sequences() == lake.expected(date(2023, 6, 2))


@pytest.mark.soak
def test_rows_published_by_other_means_are_never_reused(lake: Lake) -> None:
    lake.learn(date(2023, 5, 2), MARCH, APRIL, MAY)
    lake.build("first", JUNE)
    DeltaTable(lake.paths.table(TABLE)).delete("user_bucket = 1")
    DeltaTable(lake.paths.table("user_timelines")).delete("user_bucket = 1")

    lake.build("again", JUNE)

    assert lake.sequences() == lake.expected(JUNE)
