"""Runs a training on the workers of Ray Train."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from zigong.errors import ConfigError, InfraError
from zigong.fanout.cluster import failure, open_ray, original_error, raise_if_failed
from zigong.fanout.waiting import signs_of_life, wait_for_cpus
from zigong.recipe import Engine

SECONDS_BETWEEN_LOOKS = 1.0


def run_on_ray(
    work: Callable[[], dict[str, Any]], *, engine: Engine, name: str, storage: Path, alone: bool = False
) -> dict[str, Any]:
    """Runs ``work`` on Ray Train's workers and returns the result of the first one.

    All workers run it, with a process group of torch. If one is lost, all begin again, up to
    ``engine.training_max_failures`` times: a training goes on from its snapshot. On a cluster that has lost a node,
    ``engine.training_min_workers`` are enough.

    Args:
        work: the training; its paths are absolute, and its result is JSON-serialisable.
        engine: resource limits of a local Ray, and the number of workers.
        name: name of the run and of its folder under ``storage``.
        storage: absolute folder for Ray Train's own files; every node must be able to access it.
        alone: whether one worker does it all, whatever the engine asks for.

    Raises:
        ConfigError: ``storage`` is not absolute.
        ZigongError: ``work`` raised it.
        WorkerError: ``work`` raised another error on a single worker.
        InfraError: Ray lost the workers more often, or did not start them within ``engine.ray_idle_timeout_s``.
        Exception: any other error that ``work`` raised on one of several workers, unchanged.
    """
    if not storage.is_absolute():
        raise ConfigError(f"storage {storage} is not absolute", action="give an absolute path")
    open_ray(engine)
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")

    begun = storage / f"{name}.begun"
    begun.parent.mkdir(parents=True, exist_ok=True)
    begun.unlink(missing_ok=True)

    def train() -> str:
        begun.touch()
        try:
            return json.dumps({"result": work()})
        except Exception as error:
            if ray.train.get_context().get_world_size() > 1:
                raise  # the others wait for this worker, and only Ray can end them
            return json.dumps(failure(error))

    most = 1 if alone else engine.training_workers
    fewest = min(most, engine.training_min_workers or most)
    trainer = TorchTrainer(
        train,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if engine.ray_gpus_per_actor else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=most if fewest == most else (fewest, most),
            use_gpu=engine.ray_gpus_per_actor > 0,
            resources_per_worker={"CPU": engine.ray_cpus_per_actor},
        ),
        run_config=RunConfig(
            name=f"{name}-{uuid.uuid4().hex[:8]}",  # a name that was used before would load the state of its controller
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=engine.training_max_failures, controller_failure_limit=0),
        ),
    )
    wait_for_cpus(fewest * engine.ray_cpus_per_actor, purpose=f"the training {name}")
    try:
        with signs_of_life(f"training {name}", lambda: {"begun": begun.exists()}):
            outcome = json.loads(_fitted(trainer, begun, engine.ray_idle_timeout_s).return_value)
    except WorkerGroupError as error:
        raise original_error(error.worker_failures[min(error.worker_failures)]) from error
    except TrainingFailedError as error:
        raise original_error(error) from error
    raise_if_failed(outcome)
    result: dict[str, Any] = outcome["result"]
    return result


def run_prepared_on_ray(
    prepare: Callable[[], dict[str, Any]],
    work: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    engine: Engine,
    name: str,
    storage: Path,
) -> dict[str, Any]:
    """Runs ``work`` as :func:`run_on_ray` does, on what ``prepare`` has left, which one worker runs before.

    With one worker, one process runs both.

    Args:
        prepare: writes files that every node can access; its result is JSON-serialisable.
        work: the training, with the result of ``prepare``.
        engine: as in :func:`run_on_ray`.
        name: as in :func:`run_on_ray`.
        storage: as in :func:`run_on_ray`.
    """
    if engine.training_workers == 1:
        return run_on_ray(lambda: work(prepare()), engine=engine, name=name, storage=storage)
    prepared = run_on_ray(prepare, engine=engine, name=f"{name}-samples", storage=storage, alone=True)
    return run_on_ray(lambda: work(prepared), engine=engine, name=name, storage=storage)


def _fitted(trainer: TorchTrainer, begun: Path, longest_s: float) -> Result:
    """Runs a trainer in a thread, where Ray Train cannot replace the reaction to Ctrl-C for the rest of the process.

    Raises:
        InfraError: the training has not begun after ``longest_s``.
    """
    ended: Future[Result] = Future()

    def fit() -> None:
        try:
            ended.set_result(trainer.fit())
        except BaseException as error:  # raised again where the result is read
            ended.set_exception(error)

    threading.Thread(target=fit, daemon=True, name="training").start()
    since = time.monotonic()
    while not wait([ended], timeout=SECONDS_BETWEEN_LOOKS).done:
        if not begun.exists() and time.monotonic() - since > longest_s:
            raise InfraError(
                f"the training has not begun after {longest_s:g} s",
                action="read the logs of the cluster, then run the step again; raise engine.ray_idle_timeout_s if the "
                "cluster needs longer to start a node",
            )
    return ended.result()
