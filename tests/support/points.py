"""Rows of observation_points, published into a separate lakehouse."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from tests.support.finished import TINY
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.publish import publish
from zigong.lakehouse.published import Published
from zigong.quality.audit import contract_rules
from zigong.quality.measures import AuditContext
from zigong.recipe import load_recipe
from zigong.runs.job import Job, runs_folder
from zigong.runs.run import open_run

POINTS = "observation_points"
DAY = date(2024, 1, 1)
POPULATION = "c1"
CELLS = f"population = '{POPULATION}' AND observation_date = DATE'2024-01-01'"
GOOD = [f"u{number:02}" for number in range(40)]


def points(spark: SparkSession, users: list[str], **changes: object) -> DataFrame:
    row = {
        "population": POPULATION,
        "loan_id": "",
        "observation_at": datetime(2024, 1, 1),
        "user_bucket": 0,
        "eligible": True,
        "reason": None,
        "months_of_history": 3,
        "events_known": 4,
        "last_event_type": "statement",
        "last_event_at": datetime(2023, 12, 31),
        "days_past_due": 0,
        "loan_open": True,
        "observation_date": DAY,
        **changes,
    }
    schema = (
        "user_id string, population string, loan_id string, "
        "observation_at timestamp, user_bucket int, eligible boolean, reason string, "
        "months_of_history int, events_known int, last_event_type string, last_event_at timestamp, "
        "days_past_due int, loan_open boolean, observation_date date"
    )
    return spark.createDataFrame([(user, *row.values()) for user in users], schema)


def put(spark: SparkSession, root: Path, frame: DataFrame, run_id: str, **options: Any) -> Published:
    paths = LakehousePaths.at(str(root))
    rules = contract_rules(root / "_runs" / run_id, AuditContext(run_id=run_id))
    return publish(
        spark, paths, frame, table=POINTS, cells=CELLS, run_id=run_id, step="build_labels", rules=rules, **options
    )


def job_at(root: Path, run_id: str) -> Job:
    recipe = load_recipe(TINY, [f"lakehouse.root={root}"])
    run = open_run(recipe, runs_folder(recipe), run_id)
    return Job(step="build_labels", run=run, paths=LakehousePaths.at(str(root)))
