"""Trainings against a bare PyTorch loop and against other trainers: speed, memory, several workers, resuming.

`training.py [ROUNDS]`. Every way is a program of benchmarks/trainers with one thread in a process of its own, which
loads the model before the clock starts; the ways take turns. Ratios are of CPU seconds, medians over the turns, but for
two workers, which are compared by wall seconds. Prints a table and writes build/bench/training.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.scorers.inputs import write_model

HOME = Path(__file__).resolve().parent.parent
OUT = HOME / "build" / "bench"
DATA = OUT / "data" / "training"
PEERS = str(HOME / "build" / "venv-bench-influence" / "bin" / "python")
ROUNDS = 3
LONGEST_S = 1200  # of one training

WAYS = {  # name: interpreter, program and its arguments after the folder of the model
    "ours, ragged": (sys.executable, "ours", "ragged", "samples", "1"),
    "bare loop, ragged": (sys.executable, "bare", "ragged", "answers"),
    "bare loop with all logits, ragged": (sys.executable, "bare", "ragged", "all"),
    "Trainer, ragged": (sys.executable, "with_trainer", "ragged", "trainer"),
    "TRL's defaults, ragged": (PEERS, "with_trainer", "ragged", "trl"),
    "ours, 12 points a user": (sys.executable, "ours", "trees", "samples", "1"),
    "ours on trees, 12 points a user": (sys.executable, "ours", "trees", "trees", "1"),
    "ours, two workers, ragged": (sys.executable, "ours", "ragged", "samples", "2"),
}
MEMORY = {"mapped": (20_000, 100_000, 300_000), "held": (20_000, 100_000)}  # samples whose memory is compared

Figures = dict[str, float]
CONSOLE = Console(width=110)


def spent(python: str, program: str, *arguments: str) -> Figures | str:
    """The figures of one run of a program; its last line if it fails."""
    command = [python, f"benchmarks/trainers/{program}.py", str(DATA), *arguments]
    try:
        found = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        return f"not done after {LONGEST_S} s"
    lines = [line for line in found.stdout.splitlines() if line.startswith('{"wall"')]
    if found.returncode or not lines:
        return (found.stderr.strip().splitlines() or ["(nothing)"])[-1]
    figures: Figures = json.loads(lines[-1])
    return figures


def measured(rounds: int) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """The figures of every turn by way, and why a way failed."""
    found: dict[str, list[Figures]] = {name: [] for name in WAYS}
    failed = dict[str, str]()
    for turn in range(rounds):
        for name, way in WAYS.items():
            if name in failed:
                continue
            CONSOLE.print(f"+ turn {turn + 1}, {name}")
            figures = spent(*way)
            if isinstance(figures, str):
                failed[name] = figures
            else:
                found[name].append(figures)
    return {name: turns for name, turns in found.items() if name not in failed}, failed


def faster(found: dict[str, list[Figures]], way: str, other: str, clock: str = "cpu") -> Figures:
    """How many times as fast a way is as another: the median over the turns; nothing if one of them failed."""
    if way not in found or other not in found:
        return {}
    ratios = [b[clock] / a[clock] for a, b in zip(found[way], found[other], strict=True)]
    return {"ratio": statistics.median(ratios)}


def measured_memory() -> dict[str, dict[int, Figures]]:
    """The figures of trainings of more and more samples, mapped from their file, and held in memory to compare."""
    found: dict[str, dict[int, Figures]] = {way: {} for way in MEMORY}
    for way, counts in MEMORY.items():
        for count in counts:
            CONSOLE.print(f"+ memory, {count} samples, {way}")
            figures = spent(sys.executable, "ours", "memory", str(count), way)
            if isinstance(figures, str):
                CONSOLE.print(f"failed: {figures}", markup=False)
            else:
                found[way][count] = figures
    return found


def growth(found: dict[int, Figures]) -> float:
    """MiB of anonymous memory that 100,000 samples add, between the smallest and the largest training."""
    few, many = min(found), max(found)
    return (found[many]["anonymous"] - found[few]["anonymous"]) / (many - few) * 100_000


def flat_figures(
    found: dict[str, list[Figures]], resumed: Figures | str, memory: dict[str, dict[int, Figures]]
) -> Figures:
    """The content of training.json."""
    ours = "ours, ragged"
    ratios = {
        "vs_bare_loop": faster(found, ours, "bare loop, ragged"),
        "vs_bare_loop_all_logits": faster(found, ours, "bare loop with all logits, ragged"),
        "vs_trainer": faster(found, ours, "Trainer, ragged"),
        "vs_trl": faster(found, ours, "TRL's defaults, ragged"),
        "trees_vs_samples_12": faster(found, "ours on trees, 12 points a user", "ours, 12 points a user"),
        "two_workers_vs_one": faster(found, "ours, two workers, ragged", ours, clock="wall"),
    }
    flat = {name: ratio["ratio"] for name, ratio in ratios.items() if ratio}
    if not isinstance(resumed, str):
        flat["resume_loss_difference"] = abs(resumed["loss"] - found[ours][0]["loss"])
    for name, way in (("rss_growth_per_100k_samples", "mapped"), ("rss_growth_per_100k_samples_held", "held")):
        if len(memory[way]) > 1:
            flat[name] = growth(memory[way])
    return flat


def report(found: dict[str, list[Figures]], failed: dict[str, str]) -> None:
    """The table of the ways."""
    table = Table(title="one epoch, one thread, medians over the turns", title_justify="left")
    for column in ("way", "wall s", "CPU s", "peak MiB", "loss at the end"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, turns in found.items():
        wall, cpu, peak = (statistics.median(turn[key] for turn in turns) for key in ("wall", "cpu", "peak"))
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.0f}", f"{turns[0]['loss']:.4f}")
    CONSOLE.print(table)
    for name, why in failed.items():
        CONSOLE.print(f"{name} failed: {why}", markup=False)


def report_memory(found: dict[str, dict[int, Figures]]) -> None:
    """The table of memory: what is anonymous belongs to the process, pages of files can be taken back at any time."""
    table = Table(title="memory of a training's process, MiB", title_justify="left")
    for column in ("samples", "are", "anonymous, added", "pages of files"):
        table.add_column(column, justify="left" if column == "are" else "right")
    for way, by_count in found.items():
        for count, figures in by_count.items():
            table.add_row(f"{count:,}", way, f"{figures['anonymous']:.0f}", f"{figures['mapped']:.0f}")
    CONSOLE.print(table)


def main(rounds: int = ROUNDS) -> None:
    """Measures and reports."""
    DATA.mkdir(parents=True, exist_ok=True)
    write_model(DATA)
    found, failed = measured(rounds)
    report(found, failed)
    resumed = spent(sys.executable, "ours", "resume")
    memory = measured_memory()
    report_memory(memory)
    flat = flat_figures(found, resumed, memory)
    CONSOLE.print(flat)
    (OUT / "training.json").write_text(json.dumps(flat, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
