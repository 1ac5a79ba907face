"""Whether a worker of the Ray cluster sees the files of the driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ray

from zigong.fanout.cluster import open_ray
from zigong.recipe import Engine

TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the cluster answered: whether a worker sees the file, and how many devices there are."""

    sees_file: bool
    cpus: int
    gpus: int


def seen_by_worker(engine: Engine, file: Path) -> Seen:
    """Asks one worker for a file, on the cluster that the jobs of a recipe use.

    Raises:
        InfraError: the cluster does not answer or does not start.
    """
    open_ray(engine)
    name = str(file)

    def is_there() -> bool:
        return Path(name).is_file()

    answer = ray.get(ray.remote(num_cpus=1)(is_there).remote(), timeout=TIMEOUT_SECONDS)
    resources = ray.cluster_resources()
    return Seen(sees_file=bool(answer), cpus=int(resources.get("CPU", 0)), gpus=int(resources.get("GPU", 0)))
