"""A publish whose process kills itself and its Java: ``python -m tests.support.killed_publish ROOT PHASE MOMENT``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from tests.support.finished import TINY
from tests.support.points import points, put
from zigong.lakehouse import publish, quarantining
from zigong.lakehouse.published import Published
from zigong.lakehouse.session import open_spark
from zigong.recipe import load_recipe

RUN_ID = "new"
NEW = [f"n{number:02}" for number in range(20)]
# The function of each phase and where it is looked up, in the order publish calls them.
PHASES: dict[str, tuple[Any, str]] = {
    "stage": (publish, "_stage"),
    "quarantine": (quarantining.Refusing, "commit"),
    "verdict": (publish, "record_verdict"),
    "promote": (publish, "_promote"),
    "log": (publish, "log_publish"),
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


def dying_write(stage: Callable[..., Any]) -> Callable[..., Any]:
    """The staging of the table, killed while its rows are written."""
    group = os.getpgrp()

    def killed(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        os.killpg(group, signal.SIGKILL)
        yield from ()

    def run(folder: Any, rows: DataFrame, *arguments: Any) -> None:
        stage(folder, rows.mapInArrow(killed, rows.schema), *arguments)

    return run


if __name__ == "__main__":
    root, phase, moment = sys.argv[1:]
    session = open_spark(load_recipe(TINY).engine, app_name="killed")
    owner, name = PHASES[phase]
    killed = dying_write if moment == "during" else partial(dying, moment=moment)
    setattr(owner, name, killed(getattr(owner, name)))
    publish_new(session, Path(root))
