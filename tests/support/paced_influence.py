"""The workers of the kill tests, and the driver of a scoring: `python -m tests.support.paced_influence`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.support.scored_lake import DATES, ScoredLake
from tests.support.tiny_models import make_samples
from zigong.fanout.shards import map_shards
from zigong.influence.worker import InfluenceWorker, TargetWorker
from zigong.recipe import Engine


class PacedInfluence(InfluenceWorker):
    """Records its process id, pauses, and dies of samples that are ``deadly``."""

    def __init__(self, *, notes: Path, pause: float = 0.0, deadly: Collection[str] = (), **arguments: Any) -> None:
        super().__init__(**arguments)
        self._pause, self._deadly = pause, set(deadly)
        (notes / str(os.getpid())).touch()

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        time.sleep(self._pause / 2)
        table = super().__call__(shard)
        if self._deadly & set(table["sample_id"].to_pylist()):
            os._exit(1)
        time.sleep(self._pause / 2)
        return table


class RecordedTargets(TargetWorker):
    """Records its process id."""

    def __init__(self, *, notes: Path, **arguments: Any) -> None:
        super().__init__(**arguments)
        (notes / str(os.getpid())).touch()


def main(folder: Path, size: int, actors: int, pause: float) -> None:
    """Scores the lakehouse in ``folder`` on the cluster of RAY_ADDRESS, and resumes its staged shards."""
    lake = ScoredLake(folder=folder, samples=make_samples(size, dates=DATES))
    map_shards(
        lake.shards(),
        PacedInfluence,
        {**lake.arguments(), "notes": folder / "notes", "pause": pause},
        stage_folder=folder / "stage",
        fingerprint="f",
        engine=Engine(ray_cpus=4, ray_actors=actors),
        keys_of=lake.keys_of,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
