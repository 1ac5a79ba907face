"""A publish whose process kills itself and its Java: ``python -m tests.support.killed_publish ROOT PHASE MOMENT``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from tests.support.finished import TINY
from tests.support.points import POINTS, points, put
from zigong.lakehouse import publish
from zigong.lakehouse.published import Published
from zigong.lakehouse.session import open_spark
from zigong.recipe import load_recipe

RUN_ID = "new"
NEW = [f"n{number:02}" for number in range(20)]
# The function of each phase, in the order publish calls them.
PHASES = {
    "stage": "_stage",
    "quarantine": "quarantine_rows",
    "verdict": "record_verdict",
    "promote": "_promote",
    "log": "log_publish",
}
MOMENTS = ("before", "after")


def publish_new(spark: SparkSession, root: Path) -> Published:
    """Publishes good rows and a bad one, replacing any published rows; two more rows were dropped."""
    rows = points(spark, NEW).unionByName(points(spark, ["bad"], eligible=False))
    return put(spark, root, rows, RUN_ID, dropped={"duplicate": 2})


def dying(phase: Callable[..., Any], moment: str) -> Callable[..., Any]:
    """``phase``, killed immediately before it starts or after it ends."""

    def run(*arguments: Any, **options: Any) -> None:
        if moment == "after":
            phase(*arguments, **options)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    return run


def dying_commit(replace: Callable[..., Any]) -> Callable[..., Any]:
    """The commit of the table, killed while its rows are written: data files may exist, the commit does not."""
    group = os.getpgrp()

    def killed(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        os.killpg(group, signal.SIGKILL)
        yield from ()

    def run(paths: Any, rows: DataFrame, table: str, **options: Any) -> None:
        replace(paths, rows.mapInArrow(killed, rows.schema) if table == POINTS else rows, table, **options)

    return run


if __name__ == "__main__":
    root, phase, moment = sys.argv[1:]
    session = open_spark(load_recipe(TINY).engine, app_name="killed")
    if moment == "during":
        publish._replace = dying_commit(publish._replace)
    else:
        setattr(publish, PHASES[phase], dying(getattr(publish, PHASES[phase]), moment))
    publish_new(session, Path(root))
