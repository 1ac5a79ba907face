"""Computes shards on a Ray Data actor pool, in rounds, until each is staged or ends its worker at every attempt.

A worker that hangs is ended as well, with the stacks of its threads in a file: to the round it is a death as any other.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import ray
import ray.data

from zigong.console import LOG
from zigong.errors import InfraError
from zigong.fanout.cluster import failure, original_error, raise_if_failed
from zigong.fanout.idle import IdleError, age_seconds, ended_if_idle
from zigong.fanout.staged import Shard, ShardManifest, complete_shard, write_shard
from zigong.fanout.waiting import release_actors, signs_of_life, wait_for_cpus
from zigong.recipe import Engine

BUILDS = ".*.build"
BEGUN, SILENT = "begun", "Timeout ("  # of a file of starts: one line for each start, and the heading of faulthandler
MAX_IDLE_ROUNDS = 3
SHARDS_IN_FLIGHT = 2  # per actor: the current one and the next


class ShardWorker(Protocol):
    """A worker, which an actor builds once and calls for each of its shards."""

    def __call__(self, shard: Shard) -> pa.Table:
        """Computes one shard; the first column is its key."""


@dataclass(frozen=True, kw_only=True)
class ShardWork:
    """The computation of shards and the folder in which they are staged.

    Attributes:
        worker: importable class (or factory); each actor calls it once.
        arguments: its keyword arguments.
        stage_folder: absolute path that every node can access; ``NAME.parquet`` and ``NAME.json`` are written there.
        fingerprint: digest of all inputs of the rows except the shard; a shard with another fingerprint is recomputed.
        engine: resource limits.
    """

    worker: Callable[..., ShardWorker]
    arguments: Mapping[str, Any]
    stage_folder: Path
    fingerprint: str
    engine: Engine

    def manifest(self, shard: Shard) -> ShardManifest | None:
        """The manifest of a completely staged shard, else None."""
        return complete_shard(self.stage_folder, shard, self.fingerprint)

    def write(self, table: pa.Table, shard: Shard, *, refused: Sequence[str] = ()) -> None:
        """Stages a shard."""
        write_shard(table, shard, stage_folder=self.stage_folder, fingerprint=self.fingerprint, refused=refused)

    def forget_deaths(self) -> None:
        """Removes the start records that an earlier run left."""
        for pattern in (BUILDS, ".*.starts"):
            for file in self.stage_folder.glob(pattern):
                file.unlink()

    def starts(self, shard: Shard) -> Path:
        """File in which actors record each start of a shard, one per line; a start without a result is a death.

        The stacks of a worker that was ended because it hung follow the line of its start.
        """
        return self.stage_folder / f".{shard['shard']}.starts"


def compute(
    work: ShardWork, shards: Sequence[Shard], *, attempts: int, finished: Callable[[Shard], None]
) -> list[Shard]:
    """Computes shards in rounds, each with fresh actors, and returns those whose worker died at every attempt.

    A round in which nobody computes and nothing finishes for ``engine.ray_idle_timeout_s`` is ended: Ray was seen to
    wait for ever there, with idle actors. Fresh actors compute its rest.

    Ray restarts an actor that dies and retries its shards, ``attempts`` times in total. Ray also counts an attempt for
    the shard queued behind the one that ended the worker; a shard that was never started goes to the next round.

    Raises:
        ZigongError: a worker raised it; any other error of a worker is a WorkerError.
        InfraError: workers die before they start a shard, hang on a shard at every attempt, or Ray idles again.
    """
    waiting, suspects, idle_rounds = list(shards), list[Shard](), 0
    while waiting:
        known = {shard["shard"]: shard for shard in waiting}
        begun = sum(_begun(work, shard) for shard in waiting)
        # Closed after an error too, whose traceback would keep the actors and with them every CPU of a local Ray.
        try:
            with (
                closing(_outcomes(work, waiting, retries=attempts - 1)) as outcomes,
                signs_of_life("shards", partial(_unfinished, known)),
                ended_if_idle(work.engine.ray_idle_timeout_s, partial(_at_work, work, known)) as sign,
            ):
                for row in outcomes:
                    sign()
                    raise_if_failed(json.loads(row["outcome"]))
                    finished(known.pop(row["shard"]))
        except IdleError:
            idle_rounds += 1
            _require_fewer_idle_rounds(work, idle_rounds, len(known))
        finally:
            release_actors()
        left = [shard for shard in known.values() if work.manifest(shard) is None]
        for shard in [shard for name, shard in known.items() if shard not in left]:
            finished(shard)  # staged, but its worker died before it returned
        if not idle_rounds and len(left) == len(waiting) and sum(_begun(work, shard) for shard in left) == begun:
            raise InfraError(
                f"workers die before they start; {len(left)} shards are not computed, first {left[0]['shard']}",
                action="read the logs of the cluster (memory is the usual cause), then run the step again: it resumes",
            )
        suspects += [shard for shard in left if _begun(work, shard) >= attempts]
        _require_none_silent(work, suspects)
        waiting = [shard for shard in left if _begun(work, shard) < attempts]
    return suspects


def _unfinished(known: Mapping[str, Shard]) -> dict[str, object]:
    return {"unfinished_shards": len(known)}


def _at_work(work: ShardWork, known: Mapping[str, Shard]) -> bool:
    """Whether an actor builds its worker or computes a shard; a record that outlives the longest time is of a death."""
    records = [*work.stage_folder.glob(BUILDS), *(work.starts(shard) for shard in list(known.values()))]
    return any(age_seconds(record) < work.engine.ray_worker_timeout_s for record in records)


def _require_fewer_idle_rounds(work: ShardWork, idle_rounds: int, unfinished: int) -> None:
    LOG.warning("Ray is idle: fresh actors compute the rest", extra={"fields": {"unfinished_shards": unfinished}})
    if idle_rounds >= MAX_IDLE_ROUNDS:
        raise InfraError(
            f"{unfinished} shards are not computed: in {idle_rounds} rounds no worker did anything for "
            f"{work.engine.ray_idle_timeout_s} s",
            action="read the logs of the cluster, then run the step again: it resumes",
        )


def _begun(work: ShardWork, shard: Shard) -> int:
    return _starts(work, shard).splitlines().count(BEGUN)


def _starts(work: ShardWork, shard: Shard) -> str:
    file = work.starts(shard)
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _require_none_silent(work: ShardWork, shards: Sequence[Shard]) -> None:
    """Ends the step where every attempt at a shard hung: to find the sample in parts would take days of waiting."""
    hung = [shard for shard in shards if _starts(work, shard).count(SILENT) >= _begun(work, shard)]
    if hung:
        limit, attempts = work.engine.ray_worker_timeout_s, _begun(work, hung[0])
        raise InfraError(
            f"shard {hung[0]['shard']}: its worker gave no result within {limit} s at each of {attempts} attempts and "
            f"was ended; {len(hung)} shards are not computed",
            action=f"the stacks of its threads, {work.starts(hung[0])}, show where it hung; raise "
            "engine.ray_worker_timeout_s if the shard needs longer, then run the step again: it resumes",
        )


def _outcomes(work: ShardWork, shards: Sequence[Shard], *, retries: int) -> Generator[dict[str, Any], None, None]:
    """Rows of finished shards in completion order; a shard that Ray gave up has none."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # errors of workers are returned as rows, so an errored block is a lost worker
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised here
    actors = min(_actors(work.engine), len(shards))
    wait_for_cpus(work.engine.ray_cpus_per_actor, purpose="an actor of the shards")
    described = ray.data.from_items([{"shard": json.dumps(shard)} for shard in shards], override_num_blocks=len(shards))
    finished = described.map_batches(
        ShardWriter,
        fn_constructor_kwargs={"work": work, "most_builds": (1 + retries) * actors},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=SHARDS_IN_FLIGHT),
        num_cpus=work.engine.ray_cpus_per_actor,
        num_gpus=work.engine.ray_gpus_per_actor or None,
        max_restarts=-1,  # a pool without actors would wait forever; retries and builds are limited instead
        max_task_retries=retries,
    )
    try:
        yield from finished.iter_rows()
    except ray.exceptions.RayError as error:
        raise original_error(error) from error


def _actors(engine: Engine) -> int:
    """The number in the recipe, else one per GPU share of the cluster, else one per CPU group of a local Ray."""
    if engine.ray_actors is not None:
        return engine.ray_actors
    if engine.ray_gpus_per_actor:
        return max(1, int(ray.cluster_resources().get("GPU", 0) / engine.ray_gpus_per_actor))
    return max(1, (engine.ray_cpus - 1) // engine.ray_cpus_per_actor)


class ShardWriter:
    """The actor: builds its worker at the first shard, and writes the tables it returns."""

    def __init__(self, *, work: ShardWork, most_builds: int) -> None:
        self._work = work
        self._most_builds = most_builds
        self._worker: ShardWorker | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Computes and writes the single shard of a batch; an error of its worker is returned as a row."""
        (description,) = batch["shard"].to_pylist()
        shard, outcome = json.loads(description), dict[str, str]()
        try:
            if self._worker is None:
                self._worker = self._build()
            with self._ended_if_silent(self._work.starts(shard)):
                self._work.write(self._worker(shard), shard)
        except Exception as error:  # raised again by the driver, so that only a lost process counts as a death
            outcome = failure(error)
        self._work.starts(shard).unlink(missing_ok=True)
        return pa.table({"shard": [shard["shard"]], "outcome": [json.dumps(outcome)]})

    def _build(self) -> ShardWorker:
        """Builds the worker; a remaining marker file shows that a process ended during a build."""
        if len(list(self._work.stage_folder.glob(BUILDS))) >= self._most_builds:
            raise InfraError(
                f"workers died {self._most_builds} times while they were built",
                action="read the logs of the cluster (memory is the usual cause), then run the step again: it resumes",
            )
        note = self._work.stage_folder / BUILDS.replace("*", uuid.uuid4().hex)
        try:
            with self._ended_if_silent(note):
                return self._work.worker(**self._work.arguments)
        finally:
            note.unlink()

    @contextmanager
    def _ended_if_silent(self, record: Path) -> Iterator[None]:
        """Adds a start to a record; a block that takes too long ends the process and leaves its stacks there.

        The watch needs neither the interpreter's lock nor the block's help, so it ends loops in native code, too.
        """
        with record.open("a", encoding="utf-8") as starts:
            starts.write(f"{BEGUN}\n")
            starts.flush()
            faulthandler.dump_traceback_later(self._work.engine.ray_worker_timeout_s, exit=True, file=starts)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
