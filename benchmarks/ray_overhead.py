"""What Ray adds to TracSeq scoring: the same worker, shards and files with and without Ray, interleaved in one run.

Merges ``ray_overhead`` and ``ray_startup_seconds`` into build/bench/influence.json. Start-up is what the fastest round
needs until its first shard is done, less that shard: the actor's process, its imports and the model.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.scored_lake import ScoredLake, make_scored_lake
from zigong.fanout.cluster import open_ray
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import Shard, write_shard
from zigong.influence.worker import InfluenceWorker
from zigong.recipe import Engine

SAMPLES, ROUNDS, SHARDS = 3000, 3, 24
FIGURES = Path("build/bench/influence.json")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one run.

    Attributes:
        first: until the first shard was done.
        rest: from there to the end.
    """

    first: float
    rest: float


def main() -> None:
    """Measures and reports."""
    with tempfile.TemporaryDirectory() as folder:
        lake = make_scored_lake(Path(folder), SAMPLES)
        shards = equal_shards(lake)
        opened = time.perf_counter()
        open_ray(engine(2))
        opened = time.perf_counter() - opened
        found: dict[str, list[Timing]] = {"without Ray": [], "Ray, 1 worker": [], "Ray, 2 workers": []}
        for number in range(ROUNDS):
            stage = Path(folder) / f"stage-{number}"
            found["without Ray"].append(plain(lake, shards, stage / "0"))
            for actors in (1, 2):
                name = f"Ray, {actors} worker{'s' * (actors - 1)}"
                found[name].append(on_ray(lake, shards, stage / str(actors), actors))
        ray.shutdown()
    report(found, opened)


def equal_shards(lake: ScoredLake) -> list[dict[str, Any]]:
    """The cells, divided into shards of equal size: the last samples' pace is that of the first."""
    parts = []
    for cell in lake.shards():
        keys, size = lake.keys_of(cell), SAMPLES // SHARDS
        for start in range(0, len(keys), size):
            chosen = keys[start : start + size]
            parts.append({**cell, "shard": f"{cell['shard']}-{start}", "only": chosen, "rows": len(chosen)})
    return parts


def engine(actors: int) -> Engine:
    """A local Ray with one CPU per actor and one for reading."""
    return Engine(ray_cpus=3, ray_actors=actors, torch_threads=1)


def plain(lake: ScoredLake, shards: Sequence[Shard], stage: Path) -> Timing:
    """The worker called in this process, its shards written alike."""
    stage.mkdir(parents=True)
    begun = time.perf_counter()
    worker = InfluenceWorker(**lake.arguments())
    write_shard(worker(shards[0]), shards[0], stage_folder=stage, fingerprint="f")
    first = time.perf_counter()
    for shard in shards[1:]:
        write_shard(worker(shard), shard, stage_folder=stage, fingerprint="f")
    return Timing(first=first - begun, rest=time.perf_counter() - first)


def on_ray(lake: ScoredLake, shards: Sequence[Shard], stage: Path, actors: int) -> Timing:
    """The same through map_shards."""
    moments: list[float] = []
    begun = time.perf_counter()
    map_shards(
        shards,
        InfluenceWorker,
        lake.arguments(),
        stage_folder=stage,
        fingerprint="f",
        engine=engine(actors),
        progress=lambda *_: moments.append(time.perf_counter()),
    )
    return Timing(first=moments[1] - begun, rest=time.perf_counter() - moments[1])


def report(found: dict[str, list[Timing]], opened: float) -> None:
    """Prints the table and merges the figures."""
    rest = {name: median(timing.rest for timing in timings) for name, timings in found.items()}
    without, one, two = rest.values()
    first = {name: median(timing.first for timing in timings) for name, timings in found.items()}
    shares = [ray.rest / base.rest - 1 for ray, base in zip(found["Ray, 1 worker"], found["without Ray"], strict=True)]
    started = opened + first["Ray, 1 worker"] - first["without Ray"]
    table = Table(title=f"TracSeq, {SAMPLES} samples in {SHARDS} shards, one thread a worker, median of {ROUNDS}")
    for column in ("way", "start and first shard, s", "the other shards, s", "over without Ray"):
        table.add_column(column, justify="right")
    for name, seconds in rest.items():
        table.add_row(name, f"{first[name]:.1f}", f"{seconds:.2f}", f"{seconds / without:.3f}")
    Console().print(table)
    merge({"ray_overhead": median(shares), "ray_startup_seconds": started, "ray_scaling_2_workers": one / two})


def merge(figures: dict[str, float]) -> None:
    """Adds figures to those that other benchmarks wrote."""
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    FIGURES.write_text(json.dumps({**known, **figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
