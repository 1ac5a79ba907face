"""The job with and without what a former build left: the same rows; and it touches no more than it must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import naive_history as naive
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from test_advance import mended
from test_as_of_history import MAPPING, as_events, as_profiles

from benchmarks.spark_metrics import watched
from jobs.build_sequences import build_sequences
from schemas.contracts import table_contract
from tests.finished import TINY
from tests.rows import texts
from zigong.behavior.business_time import local_date
from zigong.behavior.observation import observation_points
from zigong.dates import Dates
from zigong.job import Job
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.lineage import Partition, changed_partitions
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version, open_pinned
from zigong.recipe import Cohort, load_recipe
from zigong.run import open_run

ZONE, BUCKETS, USERS = "Asia/Shanghai", 4, 60
MARCH, APRIL, MAY, JUNE, AUGUST = (date(2023, month, 1) for month in (3, 4, 5, 6, 8))
MENDED_DAYS = "known_date BETWEEN DATE'2023-04-08' AND DATE'2023-04-22'"


@dataclass(kw_only=True)
class Lake:
    """A lakehouse whose log grows and is mended, and the jobs that build sequences of it."""

    spark: SparkSession
    paths: LakehousePaths
    log: list[naive.Version]
    events: DataFrame = field(init=False)

    def __post_init__(self) -> None:
        self.events = self.placed(self.log)
        self.put("user_profiles", as_profiles(self.spark, naive.random_profiles(USERS)), "true")

    def placed(self, log: list[naive.Version]) -> DataFrame:
        frame = as_events(self.spark, log).withColumn("user_bucket", F.pmod(F.hash("user_id"), F.lit(BUCKETS)))
        return frame.withColumn("known_date", local_date(F.col("known_at"), ZONE)).localCheckpoint()

    def put(self, table: str, frame: DataFrame, where: str) -> None:
        contract = table_contract(table)
        create_if_missing(self.paths, contract)
        rows = frame.select(*contract.column_names).where(where).coalesce(1)
        target = self.paths.table(table)
        rows.write.format("delta").mode("overwrite").option("replaceWhere", where).save(target)

    def learn(self, until: date, *days: date) -> None:
        """Ingests what is known before a date, and observes at some dates."""
        self.put("behavior_events", self.events, f"known_date < DATE'{until}'")
        known = self.events.where(f"known_date < DATE'{until}'")
        cohort = Cohort(min_history_months=1, open_loan=False)
        points = observation_points(known, dates=days, timezone=ZONE, cohort=cohort, mapping=MAPPING)
        self.put("observation_points", points, "true")

    def mend(self) -> None:
        self.put("behavior_events", self.placed(mended(self.log)), MENDED_DAYS)

    def job(self, run_id: str, *, whole: bool = False) -> Job:
        settings = [
            f"lakehouse.root={self.paths.root}",
            f"engine.incremental={str(not whole).lower()}",
            "instructions.max_events=6",
        ]
        run = open_run(load_recipe(TINY, settings), Path(self.paths.local("_runs")), run_id)
        return Job(step="build_sequences", run=run, paths=self.paths)

    def build(self, run_id: str, end: date, *, whole: bool = False) -> Job:
        job = self.job(run_id, whole=whole)
        job.dates = Dates(first=MARCH, end=end)
        build_sequences(job)
        return job

    def sequences(self) -> list[str]:
        table = "user_sequences"
        return texts(open_pinned(self.spark, self.paths, table, latest_version(self.paths, table)))

    def rebuilt_whole(self, run_id: str, end: date) -> list[str]:
        """The rows of a whole build; the table is put back to what it was."""
        before = latest_version(self.paths, "user_sequences")
        self.build(f"{run_id}-whole", end, whole=True)
        rows = self.sequences()
        DeltaTable(self.paths.table("user_sequences")).restore(before)
        return rows

    def rewritten(self, before: int) -> set[Partition]:
        return set(
            changed_partitions(self.paths, "user_sequences", before, latest_version(self.paths, "user_sequences"))
        )


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[Lake]:
    yield Lake(spark=spark, paths=LakehousePaths.at(str(tmp_path)), log=naive.drawn_log(USERS))


def test_a_date_from_the_state_and_a_mended_partition_equal_whole_builds(lake: Lake) -> None:
    lake.learn(date(2023, 5, 2), MARCH, APRIL, MAY)
    lake.build("first", JUNE)
    lake.learn(date(2023, 6, 20), MARCH, APRIL, MAY, JUNE)

    work = watched(lake.spark, lambda: lake.build("next", date(2023, 6, 2)), tables=("behavior_events",))

    new = lake.events.where(f"known_date >= DATE'{MAY}' AND known_date < DATE'{JUNE}'").count()
    assert 0 < work.scanned["behavior_events"] <= 2 * new
    assert lake.sequences() == lake.rebuilt_whole("next", date(2023, 6, 2))

    lake.mend()
    before = latest_version(lake.paths, "user_sequences")
    lake.build("mended", date(2023, 6, 2))
    print(sorted(str(p) for p in lake.rewritten(before)))
