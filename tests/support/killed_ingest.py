"""A night whose process kills itself between its two commits: ``python -m tests.support.killed_ingest HOME DATE``."""

from __future__ import annotations

import os
import signal
import sys
from datetime import date
from pathlib import Path
from typing import Any

import jobs.ingest_events as job
from tests.support.bank import Bank
from tests.support.finished import TINY
from zigong.lakehouse.session import open_spark
from zigong.recipe import load_recipe
from zigong.runs.ingested import publish_delivered

NAME = "night"
LOAD = ["anna,e1,2023-03-05 10:00:00,order,10,", "bert,e2,2023-03-08 10:00:00,payment,20,"]
CLIENTS = ["anna,2023-03-01 00:00:00,Rome", "bert,2023-03-01 00:00:00,Oslo"]
ROWS = [
    "anna,e3,2023-03-10 09:00:00,order,30,",
    "anna,e4,2023-03-07 09:00:00,order,40,",  # late
    "anna,e1,2023-03-05 10:00:00,order,11,",  # changed
]


def dying(publish: Any) -> Any:
    """``publish_delivered``, killed immediately after the commit of the events."""

    def run(*arguments: Any) -> None:
        publish(*arguments)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    return run


if __name__ == "__main__":
    home, day = sys.argv[1:]
    open_spark(load_recipe(TINY).engine, app_name="killed")
    vars(job)["publish_delivered"] = dying(publish_delivered)
    Bank(home=Path(home)).ingest(NAME, ROWS, CLIENTS, night=date.fromisoformat(day))
