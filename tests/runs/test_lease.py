"""The lease of a run: one process at a time, and a former holder is fenced."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.finished import TINY
from zigong.errors import ConflictError, DataError
from zigong.files.atomic import write_once
from zigong.recipe import load_recipe
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.lease import holder_of, take_lease
from zigong.runs.run import Run, open_run

HOLD = """
import sys
from pathlib import Path
from zigong.runs.lease import take_lease
with take_lease(Path(sys.argv[1]), "ingest_events", beat_seconds=0.05):
    print("held", flush=True)
    sys.stdin.read()
"""


def opened(root: Path) -> Run:
    return open_run(load_recipe(TINY, [f"lakehouse.root={root}"]), root / "_runs", "one")


def test_of_many_writers_of_a_file_exactly_one_creates_it_completely(tmp_path: Path) -> None:
    texts = [f"{number}" * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda text: write_once(tmp_path / "f", text), texts))
    assert sum(won) == 1
    assert (tmp_path / "f").read_text() == texts[won.index(True)]
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_of_many_drivers_of_one_run_exactly_one_works_and_the_others_end_in_a_conflict(tmp_path: Path) -> None:
    run, done = opened(tmp_path), []
    release = threading.Event()

    def body(job: Job) -> None:
        done.append(job.attempt.token)
        release.wait(20)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(run_step, "ingest_events", body, run) for _ in range(4)]
        while sum(driver.done() for driver in running) < 3:
            time.sleep(0.05)
        release.set()
        outcomes = [driver.result() for driver in running]
    assert sorted((outcome.kind, outcome.code, outcome.retryable) for outcome in outcomes) == [
        *[("conflict", 4, True)] * 3,
        ("ok", 0, False),
    ]
    assert done == [1]
    recorded = run.outcome("ingest_events")
    assert recorded is not None
    assert (recorded.kind, recorded.attempt) == ("ok", 1)


def test_a_killed_holder_is_replaced_at_once_and_a_living_one_never(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(ConflictError, match=rf"worked on by another process: process {child.pid} on .*ingest_events"):
        take_lease(tmp_path, "ingest_events", expiry_seconds=20)
    child.kill()
    child.wait()
    with take_lease(tmp_path, "build_labels", expiry_seconds=86_400) as lease:  # no wait for the expiry
        assert lease.token == 2


def test_a_silent_holder_elsewhere_is_replaced_after_the_expiry_and_is_fenced(tmp_path: Path) -> None:
    silent = take_lease(tmp_path, "ingest_events")  # alive, as far as its machine can tell, but without a heartbeat
    with take_lease(tmp_path, "ingest_events", expiry_seconds=0.3) as later:
        assert (silent.token, later.token) == (1, 2)
        later.require_held()
        assert not silent.is_held
        with pytest.raises(ConflictError, match="another process has taken over as attempt 2"):
            silent.require_held()
    found = holder_of(tmp_path)
    assert found is not None
    assert (found.token, found.released) == (2, True)


def test_an_attempt_that_lost_its_run_records_nothing_whatever_it_failed_of(tmp_path: Path) -> None:
    run = opened(tmp_path)

    def body(job: Job) -> None:
        write_once(run.folder / "lease" / "000002.json", json.dumps({}))
        raise DataError("a staged file is missing", action="none")

    outcome = run_step("ingest_events", body, run)
    assert (outcome.kind, outcome.code, outcome.retryable) == ("conflict", 4, True)
    assert run.outcome("ingest_events") is None


def test_a_finished_step_that_is_asked_for_again_loses_its_outcome_before_it_starts(tmp_path: Path) -> None:
    run, seen = opened(tmp_path), []

    def body(job: Job) -> None:
        seen.append((job.attempt.rerun, run.outcome("ingest_events")))

    for rerun in (True, False, True):
        assert run_step("ingest_events", body, run, rerun=rerun).code == 0
    first, resumed, again = seen
    assert first == (0, None)
    assert resumed[1] is not None
    assert again == (1, None)
