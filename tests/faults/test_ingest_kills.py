"""An ingest killed between its commits is completed by a retry, with the counts of the whole delivery."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.bank import Bank
from tests.support.finished import REPOSITORY
from tests.support.killed_ingest import CLIENTS, LOAD, NAME
from zigong.lakehouse.deliveries import deliveries_of

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("spark")]


@pytest.mark.parametrize(
    ("day", "rows"),
    [
        pytest.param(date(2023, 3, 10), 3, id="a new night"),
        pytest.param(date(2023, 3, 8), 2, id="a night ingested before, whose change becomes known on a later date"),
    ],
)
def test_the_retry_of_a_night_killed_between_events_and_profiles_records_all_that_the_night_changed(
    spark: SparkSession, tmp_path: Path, day: date, rows: int
) -> None:
    bank = Bank(home=tmp_path)
    assert bank.ingest("load", LOAD, CLIENTS).kind == "ok"
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.killed_ingest", str(tmp_path), day.isoformat()],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    )
    assert child.wait() == -signal.SIGKILL
    published = sorted(map(str, bank.rows("behavior_events")))
    assert len(published) == len(LOAD) + rows
    retried = bank.read(NAME, tmp_path / "landing" / NAME, night=day)
    assert retried.kind == "ok", retried.message
    assert sorted(map(str, bank.rows("behavior_events"))) == published
    assert retried.tables["behavior_events"]["published"] == rows
    events = deliveries_of(bank.paths, "bank")[-1].events
    assert (events.read, events.published, events.late, events.changed) == (3, rows, 1, 1)
