"""Wall and CPU seconds of a piece of work, including the processes it started. Standard library only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

LONG = 300  # seconds of work; for longer work start-up and compilation are negligible: it counts as warm


def measure(work: Callable[[], object]) -> dict[str, float]:
    """Runs ``work`` and returns ``wall`` and ``cpu`` in seconds."""
    started, before = time.perf_counter(), _cpu_seconds()
    work()
    return {"wall": time.perf_counter() - started, "cpu": _cpu_seconds() - before}


def measure_warm(
    work: Callable[[], object], between: Callable[[], object] = lambda: None, times: int = 1
) -> dict[str, float]:
    """As ``measure``, with ``warm_wall`` and ``warm_cpu`` of repetitions, after Spark has compiled its code.

    Work of more than ``LONG`` seconds is not repeated.

    Args:
        between: run before each repetition, not counted.
        times: number of repetitions; the fastest counts.
    """
    first = measure(work)
    again = []
    for _ in range(times if first["wall"] <= LONG else 0):
        between()
        again.append(measure(work))
    return {**first, **{f"warm_{name}": min(found[name] for found in again or [first]) for name in first}}


def print_figures(figures: dict[str, float]) -> None:
    """Prints the figures as the last line, where the driver reads them."""
    print(json.dumps(figures), flush=True)


def _cpu_seconds() -> float:
    """CPU seconds of this process, its living descendants, and the ended ones they waited for (Linux)."""
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
    """The child processes; read again if a thread ended meanwhile, since its children move to another thread."""
    while process.exists():
        try:
            tasks = list((process / "task").iterdir())
            return [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return []
