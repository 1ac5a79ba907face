"""Distributes shards over Ray Data actors; each shard is a separate file, so a rerun resumes where the last stopped.

Ray commits nothing: it writes one Parquet file and one manifest per shard, and the lakehouse commits once. The rows of
a shard do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zigong.errors import ConfigError, InfraError
from zigong.fanout.cluster import open_ray
from zigong.fanout.isolation import isolate
from zigong.fanout.rounds import ShardWork, ShardWorker, compute
from zigong.fanout.staged import Shard, ShardManifest
from zigong.recipe import Engine

RETRIES = 2  # per shard whose actor died


def map_shards(
    shards: Sequence[Shard],
    worker: Callable[..., ShardWorker],
    worker_arguments: Mapping[str, Any],
    *,
    stage_folder: Path,
    fingerprint: str,
    engine: Engine,
    progress: Callable[[int, int], None] | None = None,
    keys_of: Callable[[Shard], Sequence[str]] | None = None,
) -> list[ShardManifest]:
    """Computes every shard that is not staged yet and returns the manifests of all, in the order of ``shards``.

    Args:
        shards: JSON-serialisable descriptions, each with a unique ``shard`` name that is a valid file name; ``rows``,
            if present, is the size used for progress.
        worker: see :class:`ShardWork`, also for the next four.
        worker_arguments: its keyword arguments.
        stage_folder: absolute path.
        fingerprint: digest of all inputs of the rows except the shard.
        engine: resource limits; one CPU of a local Ray is reserved for reading.
        progress: called with the rows done and the total number of rows.
        keys_of: returns the keys of a shard. If given, a shard whose worker dies at every attempt is divided until the
            key that ends the process is isolated; the manifest lists that key as refused. The worker must support
            ``only``, the keys of a shard to compute.

    Raises:
        ConfigError: shard names are missing or not unique, or the folder is not absolute.
        ZigongError: a worker raised it.
        InfraError: Ray lost workers more often than allowed.
        WorkerError: a worker raised another error; it has type, message and traceback.
    """
    require_names(shards)
    if not stage_folder.is_absolute():
        raise ConfigError(f"stage folder {stage_folder} is not absolute", action="give an absolute path")
    stage_folder.mkdir(parents=True, exist_ok=True)
    work = ShardWork(
        worker=worker,
        arguments=worker_arguments,
        stage_folder=stage_folder,
        fingerprint=fingerprint,
        engine=engine,
    )
    count = _Count(shards, progress)
    missing = [shard for shard in shards if work.manifest(shard) is None]
    count.begin(missing)
    if missing:
        open_ray(engine)
        work.forget_deaths()
        suspects = compute(work, missing, attempts=1 + RETRIES, finished=count.add)
        if suspects:
            isolate(work, suspects, keys_of)
            for shard in suspects:
                count.add(shard)
    manifests = [work.manifest(shard) for shard in shards]
    lost = [shard["shard"] for shard, manifest in zip(shards, manifests, strict=True) if manifest is None]
    if lost:
        raise InfraError(f"{len(lost)} shards are incomplete, first {lost[0]}", action="run the step again: it resumes")
    return [manifest for manifest in manifests if manifest is not None]


def require_names(shards: Sequence[Shard]) -> None:
    """Raises a ConfigError unless every shard has a unique name that is a valid file name."""
    names = [str(shard.get("shard", "")) for shard in shards]
    wrong = [name for name in names if not name or Path(name).name != name or name.startswith(".")]
    if wrong or len(set(names)) != len(names):
        raise ConfigError(
            f"shards need unique names that can be file names, found {sorted(names)[:5]}", action="name each shard once"
        )


class _Count:
    """Counts finished rows for progress."""

    def __init__(self, shards: Sequence[Shard], progress: Callable[[int, int], None] | None) -> None:
        self._report = progress or (lambda _, __: None)
        self._total = self._done = sum(shard.get("rows", 1) for shard in shards)

    def begin(self, missing: Sequence[Shard]) -> None:
        self._done -= sum(shard.get("rows", 1) for shard in missing)
        self._report(self._done, self._total)

    def add(self, shard: Shard) -> None:
        self._done += shard.get("rows", 1)
        self._report(self._done, self._total)
