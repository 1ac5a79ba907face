"""Fans shards out over Ray Data actors; each writes its own file, so a rerun continues where the last one stopped.

Ray commits nothing: it leaves one parquet file and one manifest per shard, and the lakehouse makes the one commit. What
a shard holds does not depend on the number of workers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data

from zigong.errors import ConfigError, ConflictError, DataError, InfraError, ZigongError
from zigong.recipe import Engine

RETRIES = 2  # of an actor that died, and of its task
MEBIBYTE = 1024 * 1024

Shard = Mapping[str, Any]


class ShardWorker(Protocol):
    """What an actor builds once and calls for each of its shards."""

    def __call__(self, shard: Shard) -> pa.Table:
        """Computes one shard; the first column is its key."""


@dataclass(frozen=True, kw_only=True)
class ShardManifest:
    """What one shard's file holds.

    Attributes:
        shard: its name.
        rows: rows of the file.
        keys: distinct values of its first column.
        checksum: SHA-256 of the file.
        fingerprint: of everything the rows depend on, but the shard.
        shard_digest: SHA-256 of the shard's description.
    """

    shard: str
    rows: int
    keys: int
    checksum: str
    fingerprint: str
    shard_digest: str


def open_ray(engine: Engine) -> None:
    """Joins the cluster that RAY_ADDRESS names, else starts a local one with the engine's limits.

    Does nothing where this process is connected already.

    Raises:
        InfraError: the cluster does not answer or does not start.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {"namespace": _namespace(), "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **common)
        else:
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            ray.init(
                address="local",
                num_cpus=max(2, engine.ray_cpus),
                object_store_memory=engine.ray_object_store_mb * MEBIBYTE,
                include_dashboard=False,
                **common,
            )
    except (ConnectionError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        raise InfraError(
            f"Ray did not start ({address or 'local'}): {error}", action="check RAY_ADDRESS and memory"
        ) from error


def close_ray() -> None:
    """Ends the connection that :func:`open_ray` made, and with it a local cluster; others' stay as they are."""
    if ray.is_initialized() and ray.get_runtime_context().namespace == _namespace():
        ray.shutdown()


def _namespace() -> str:
    return f"zigong-{os.getpid()}"


def map_shards(
    shards: Sequence[Shard],
    worker: Callable[..., ShardWorker],
    worker_arguments: Mapping[str, Any],
    *,
    stage_folder: Path,
    fingerprint: str,
    engine: Engine,
    progress: Callable[[int, int], None] | None = None,
) -> list[ShardManifest]:
    """Computes every shard that is not there yet and returns the manifests of all, in the order of ``shards``.

    Args:
        shards: JSON-able descriptions, each with a unique ``shard`` name that can be a file name.
        worker: importable class (or factory); each actor calls it once.
        worker_arguments: its keyword arguments.
        stage_folder: absolute; every node of the cluster must see it. Gets ``NAME.parquet`` and ``NAME.json``.
        fingerprint: of everything the rows depend on but the shard; shards of another fingerprint are computed anew.
        engine: limits; one CPU stays free for reading.
        progress: called with shards done and shards in all.

    Raises:
        ConfigError: shard names are missing or not unique, or the folder is not absolute.
        ZigongError: what a worker raised, in its own kind.
        InfraError: Ray lost a worker more often than it may.
        Exception: whatever else a worker raised, as it was.
    """
    names = _shard_names(shards)
    if not stage_folder.is_absolute():
        raise ConfigError(f"stage folder {stage_folder} is not absolute", action="give an absolute path")
    stage_folder.mkdir(parents=True, exist_ok=True)
    whole = {name: whole_shard(stage_folder, shard, fingerprint) for name, shard in zip(names, shards, strict=True)}
    missing = [shard for name, shard in zip(names, shards, strict=True) if whole[name] is None]
    report = progress or (lambda _, __: None)
    report(len(shards) - len(missing), len(shards))
    if missing:
        open_ray(engine)
        for done, row in enumerate(
            _computed(missing, worker, worker_arguments, stage_folder, fingerprint, engine), start=1
        ):
            raise_if_failed(json.loads(row["outcome"]))
            report(len(shards) - len(missing) + done, len(shards))
    manifests = [whole_shard(stage_folder, shard, fingerprint) for shard in shards]
    lost = [name for name, manifest in zip(names, manifests, strict=True) if manifest is None]
    if lost:
        raise InfraError(f"{len(lost)} shards are not whole, first {lost[0]}", action="run the step again: it resumes")
    return [manifest for manifest in manifests if manifest is not None]


def _shard_names(shards: Sequence[Shard]) -> list[str]:
    names = [str(shard.get("shard", "")) for shard in shards]
    wrong = [name for name in names if not name or Path(name).name != name or name.startswith(".")]
    if wrong or len(set(names)) != len(names):
        raise ConfigError(
            f"shards need unique names that can be file names, found {sorted(names)[:5]}", action="name each shard once"
        )
    return names


def _computed(
    shards: Sequence[Shard],
    worker: Callable[..., ShardWorker],
    worker_arguments: Mapping[str, Any],
    stage_folder: Path,
    fingerprint: str,
    engine: Engine,
) -> Any:
    """Rows of finished shards, as they come."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # the wrapper loses its cause between processes
    context.max_errored_blocks = 0  # an errored block would be dropped with its rows
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised here
    described = ray.data.from_items([{"shard": json.dumps(shard)} for shard in shards], override_num_blocks=len(shards))
    finished = described.map_batches(
        ShardWriter,
        fn_constructor_kwargs={
            "worker": worker,
            "worker_arguments": dict(worker_arguments),
            "stage_folder": stage_folder,
            "fingerprint": fingerprint,
        },
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=max(1, min(engine.ray_cpus - 1, len(shards)))),
        num_cpus=1,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )
    try:
        yield from finished.iter_rows()
    except ray.exceptions.RayError as error:
        raise original_error(error) from error


class ShardWriter:
    """The actor: builds its worker at the first shard, and writes what it returns."""

    def __init__(
        self,
        *,
        worker: Callable[..., ShardWorker],
        worker_arguments: Mapping[str, Any],
        stage_folder: Path,
        fingerprint: str,
    ) -> None:
        self._build = worker
        self._arguments = worker_arguments
        self._stage_folder = stage_folder
        self._fingerprint = fingerprint
        self._worker: ShardWorker | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Computes and writes the one shard of a batch; a failure of ours travels as a row."""
        (description,) = batch["shard"].to_pylist()
        shard = json.loads(description)
        try:
            if self._worker is None:
                self._worker = self._build(**self._arguments)
            write_shard(self._worker(shard), shard, stage_folder=self._stage_folder, fingerprint=self._fingerprint)
        except ZigongError as error:
            return pa.table({"outcome": [json.dumps(failure(error))]})
        return pa.table({"outcome": [json.dumps({})]})


def write_shard(table: pa.Table, shard: Shard, *, stage_folder: Path, fingerprint: str) -> ShardManifest:
    """Writes a shard's file and then its manifest, each through a temporary name."""
    name = str(shard["shard"])
    file, manifest_file = stage_folder / f"{name}.parquet", stage_folder / f"{name}.json"
    manifest_file.unlink(missing_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    pq.write_table(table, partial)
    manifest = ShardManifest(
        shard=name,
        rows=table.num_rows,
        keys=pc.count_distinct(table.column(0)).as_py(),
        checksum=_checksum(partial),
        fingerprint=fingerprint,
        shard_digest=_shard_digest(shard),
    )
    partial.replace(file)
    partial = manifest_file.with_name(f".{manifest_file.name}.{os.getpid()}")
    partial.write_text(json.dumps(asdict(manifest), sort_keys=True), encoding="utf-8")
    partial.replace(manifest_file)
    return manifest


def whole_shard(stage_folder: Path, shard: Shard, fingerprint: str) -> ShardManifest | None:
    """The manifest of a shard whose file is there, unchanged, and of this fingerprint; else None."""
    file, manifest_file = (stage_folder / f"{shard['shard']}.{kind}" for kind in ("parquet", "json"))
    if not (file.is_file() and manifest_file.is_file()):
        return None
    manifest = ShardManifest(**json.loads(manifest_file.read_text(encoding="utf-8")))
    same = (fingerprint, _shard_digest(shard)) == (manifest.fingerprint, manifest.shard_digest)
    return manifest if same and _checksum(file) == manifest.checksum else None


def _shard_digest(shard: Shard) -> str:
    return hashlib.sha256(json.dumps(shard, sort_keys=True).encode()).hexdigest()


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def failure(error: ZigongError) -> dict[str, str]:
    """A named failure as JSON: it crosses processes as data."""
    return {"kind": error.kind, "message": error.message, "action": error.action}


def raise_if_failed(outcome: Mapping[str, Any]) -> None:
    """Raises the failure that :func:`failure` described, in its own kind."""
    if "kind" not in outcome:
        return
    kinds = {kind.kind: kind for kind in (ConfigError, DataError, ConflictError, InfraError)}
    raise kinds.get(outcome["kind"], ZigongError)(outcome["message"], action=outcome["action"])


def original_error(error: BaseException) -> Exception:
    """What user code raised beneath Ray's wrappers; Ray's own failures become an InfraError."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Exception) and not type(seen).__module__.startswith("ray."):
            return seen
        # Ray Core keeps the cause in `cause`, Ray Train in `_base_exc`
        seen = getattr(seen, "cause", None) or getattr(seen, "_base_exc", None) or seen.__cause__
    return InfraError(
        f"Ray failed: {error}", action="check memory and the cluster, then run the step again: it resumes"
    )
