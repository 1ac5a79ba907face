"""Connects to or starts a Ray cluster, and transfers errors between its processes."""

from __future__ import annotations

import logging
import os
import secrets
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from zigong.errors import ConfigError, ConflictError, DataError, InfraError, ZigongError
from zigong.recipe import Engine
from zigong.recipe.user_key import taken_key

MEBIBYTE = 1024 * 1024
LOOPBACK = "127.0.0.1"


def open_ray(engine: Engine) -> None:
    """Connects to the cluster at RAY_ADDRESS, or starts a local one with the engine's limits.

    A local one listens on the loopback address only and demands a token, which is new for each cluster and known only
    to the processes started here. Does nothing if this process is already connected.

    Raises:
        InfraError: the cluster does not answer or does not start.
    """
    if ray.is_initialized():
        return
    taken_key()  # before workers inherit the environment
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray lowers the priority of its workers, so that next to a busy Spark they would hardly move.
    os.environ.setdefault("RAY_worker_niceness", "0")
    common = {"namespace": f"zigong-{os.getpid()}", "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **common)
        else:
            with _closed_to_others():
                ray.init(
                    address="local",
                    _node_ip_address=LOOPBACK,
                    num_cpus=max(2, engine.ray_cpus),
                    object_store_memory=engine.ray_object_store_mb * MEBIBYTE,
                    include_dashboard=False,
                    **common,
                )
    except (ConnectionError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        raise InfraError(
            f"Ray did not start ({address or 'local'}): {error}", action="check RAY_ADDRESS and memory"
        ) from error


@contextmanager
def _closed_to_others() -> Iterator[None]:
    """Settings of a local Ray that are no arguments of ``ray.init``; the processes it starts inherit them."""
    # Without a mode Ray demands a token of a new local cluster, and rereads its settings.
    os.environ.pop("RAY_AUTH_MODE", None)
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    AuthenticationTokenLoader.instance().reset_cache()
    # As on Windows and macOS, where a local Ray has to be on loopback: elsewhere Ray replaces the loopback address by
    # that of the network, and listens on every interface.
    variable, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    os.environ[variable], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        del os.environ[variable]
        ray_constants.ENABLE_RAY_CLUSTER = before


class WorkerError(Exception):
    """An error of a worker that is not a ZigongError: its type, message and traceback."""


def failure(error: Exception) -> dict[str, str]:
    """Describes an error as JSON, so that it crosses processes as data and never as a pickled object."""
    if isinstance(error, ZigongError):
        return {"kind": error.kind, "message": error.message, "action": error.action}
    return {"raised": f"{type(error).__name__}: {error}", "traceback": "".join(traceback.format_exception(error))}


def raise_if_failed(outcome: Mapping[str, Any]) -> None:
    """Raises the error that :func:`failure` described: with its own type if it is a ZigongError, else a WorkerError."""
    if "raised" in outcome:
        raise WorkerError(f"{outcome['raised']}\n{outcome['traceback']}")
    if "kind" not in outcome:
        return
    kinds = {kind.kind: kind for kind in (ConfigError, DataError, ConflictError, InfraError)}
    raise kinds.get(outcome["kind"], ZigongError)(outcome["message"], action=outcome["action"])


def original_error(error: BaseException) -> Exception:
    """The error that user code raised, without Ray's wrappers; Ray's own failures become an InfraError."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, Exception) and not type(inner).__module__.startswith("ray."):
            return inner
        # Ray Core keeps the cause in `cause`, Ray Train in `_base_exc`
        inner = getattr(inner, "cause", None) or getattr(inner, "_base_exc", None) or inner.__cause__
    return InfraError(
        f"Ray failed: {error}", action="check memory and the cluster, then run the step again: it resumes"
    )
