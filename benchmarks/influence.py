"""TracSeq scoring in batches against one sample at a time, both with the same loss code, interleaved in one run.

Prints a table and writes build/bench/influence.json. The peers of other libraries join with the fast engine.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.tiny_models import make_agent_settings, make_base, make_samples
from zigong.influence.capture import open_agent
from zigong.influence.score import score_samples
from zigong.influence.targets import target_gradients
from zigong.recipe import Influence
from zigong.training.trainer import train_agent

SAMPLES, TARGETS, ROUNDS = 300, 60, 3
TRAIN_DATES = (date(2023, 1, 1), date(2023, 2, 1), date(2023, 3, 1))
TARGET_DATES = (date(2023, 8, 1),)


def main() -> None:
    """Measures and reports."""
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder) / "base")
        samples = make_samples(SAMPLES, dates=TRAIN_DATES)
        settings = make_agent_settings(3)
        manifest = train_agent(
            base,
            samples,
            settings,
            seed=1,
            torch_threads=1,
            folder=Path(folder) / "agent",
            data={"dataset_id": "bench"},
        )
        agent = open_agent(base, manifest, torch_threads=1)
        targets = make_samples(TARGETS, seed=9, dates=TARGET_DATES, prefix="t")
        gradients = target_gradients(agent, targets, Influence(), business_timezone="UTC")
        ways = {"batched": Influence(batch_tokens=4096), "batch of one": Influence(batch_tokens=1)}
        seconds = {name: [0.0, 0.0] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                wall, cpu = timed(lambda way=way: score_samples(agent, gradients, samples, way))
                seconds[name][0] += wall
                seconds[name][1] += cpu
    report({name: (wall / ROUNDS, cpu / ROUNDS) for name, (wall, cpu) in seconds.items()})


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def report(seconds: dict[str, tuple[float, float]]) -> None:
    """Prints the table and writes the figures."""
    table = Table(title=f"TracSeq, {SAMPLES} samples, 3 checkpoints, one thread")
    for column in ("way", "samples/s", "CPU seconds"):
        table.add_column(column, justify="right")
    for name, (wall, cpu) in seconds.items():
        table.add_row(name, f"{SAMPLES / wall:,.0f}", f"{cpu:.2f}")
    Console().print(table)
    ratio = np.array(seconds["batch of one"]) / np.array(seconds["batched"])
    figures = {"vs_batch_of_one": float(ratio[0]), "vs_batch_of_one_cpu": float(ratio[1])}
    file = Path("build/bench/influence.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
