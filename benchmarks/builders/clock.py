"""Wall and CPU seconds of a piece of work, the processes it started included. Standard library only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

LONG = 300  # seconds of work beside which start-up and compilation are nothing, so that it counts as warm itself


def measure(work: Callable[[], object]) -> dict[str, float]:
    """Runs ``work`` and returns ``wall`` and ``cpu`` in seconds."""
    started, before = time.perf_counter(), _cpu_seconds()
    work()
    return {"wall": time.perf_counter() - started, "cpu": _cpu_seconds() - before}


def measure_warm(
    work: Callable[[], object], between: Callable[[], object] = lambda: None, times: int = 1
) -> dict[str, float]:
    """As ``measure``, and ``warm_wall`` and ``warm_cpu`` of doing it again, when Spark has compiled its code.

    Work of more than ``LONG`` seconds is not done again.

    Args:
        between: done before each further time, not counted.
        times: how often it is done again; the fastest counts.
    """
    first = measure(work)
    again = []
    for _ in range(times if first["wall"] <= LONG else 0):
        between()
        again.append(measure(work))
    return {**first, **{f"warm_{name}": min(found[name] for found in again or [first]) for name in first}}


def tell(figures: dict[str, float]) -> None:
    """Prints the figures as the last line, where the driver reads them."""
    print(json.dumps(figures), flush=True)


def _cpu_seconds() -> float:
    """Of this process, of its living descendants, and of the ended ones they waited for (Linux)."""
    ticks, waiting = 0, [os.getpid()]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            waiting += _children(process)
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(process: Path) -> list[int]:
    """Read again where a thread ended meanwhile: what it had started is another thread's by then."""
    while process.exists():
        try:
            tasks = list((process / "task").iterdir())
            return [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return []
