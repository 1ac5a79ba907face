"""Waits for CPUs of Ray: what has ended gives them back, and a wait is visible and ends."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ray

from zigong.console import LOG
from zigong.errors import InfraError

SECONDS_BETWEEN_SIGNS = 30.0
LONGEST_WAIT_SECONDS = 600.0


def release_actors() -> None:
    """Gives back the CPUs of a Ray Data computation that has ended.

    Ray Data does not kill its actors then, it drops their handles, and Ray ends an actor when its last handle is
    collected. The executor that held them is part of reference cycles, which Python collects only while it allocates:
    a driver that waits for Ray Train does not, so the actors kept both CPUs of a local Ray and the training waited.
    """
    gc.collect()


def wait_for_cpus(wanted: float, *, purpose: str, longest_seconds: float = LONGEST_WAIT_SECONDS) -> None:
    """Waits until a local Ray has CPUs free, and logs that it waits.

    A cluster is left alone: it may start nodes for what waits.

    Raises:
        InfraError: they are still taken after ``longest_seconds``.
    """
    if os.environ.get("RAY_ADDRESS"):
        return
    since, signs = time.monotonic(), 0
    while _free_cpus() < wanted:
        waited = time.monotonic() - since
        if waited > longest_seconds:
            raise InfraError(
                f"{purpose} has waited {waited:.0f} s for {wanted:g} CPUs of the local Ray: {_free_cpus():g} of "
                f"{_all_cpus():g} are free, others hold the rest",
                action="run the step again with the same run id: it resumes",
            )
        if waited > signs * SECONDS_BETWEEN_SIGNS:
            signs += 1
            fields = {"purpose": purpose, "free": _free_cpus(), "wanted": wanted, "seconds": round(waited)}
            LOG.info("waiting for CPUs of Ray", extra={"fields": fields})
            release_actors()
        time.sleep(0.1)


@contextmanager
def signs_of_life(title: str, state: Callable[[], Mapping[str, object]]) -> Iterator[None]:
    """Logs, while the block runs, the progress of its work on Ray, every ``SECONDS_BETWEEN_SIGNS``.

    Args:
        title: what runs.
        state: figures of its progress.
    """
    stop = threading.Event()

    def report() -> None:
        while not stop.wait(SECONDS_BETWEEN_SIGNS):
            fields = {"work": title, **state(), "free_cpus": _free_cpus(), "cpus": _all_cpus()}
            LOG.info("working on Ray", extra={"fields": fields})

    reporter = threading.Thread(target=report, daemon=True, name=f"signs of {title}")
    reporter.start()
    try:
        yield
    finally:
        stop.set()
        reporter.join()


def _free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def _all_cpus() -> float:
    return float(ray.cluster_resources().get("CPU", 0.0))
