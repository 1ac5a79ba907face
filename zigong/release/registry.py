"""The model registry: MLflow holds what was released, from which data, and which version is champion.

A version is a folder of safetensors, a card and ``serving.json``; nothing in it is unpickled or executed. This module
is the only one that knows MLflow.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from zigong.errors import ConfigError, DataError, InfraError
from zigong.evaluation.calibration import Calibration
from zigong.recipe import Card

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"

_ID_TAG = "zigong.model_id"
_SERVING_FILE = "serving.json"
_EXECUTABLE = frozenset({".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"})
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_LONGEST_PARAM = 6000  # limit of MLflow


@dataclass(frozen=True, kw_only=True)
class ModelRegistry:
    """Where models are registered.

    Attributes:
        uri: MLflow address; sqlite by absolute path, such as ``sqlite:////data/mlflow.db``.
        artifacts: folder for the files of every version.
        model_name: registered model whose alias ``champion`` is served.
        experiment: MLflow experiment of the runs.
    """

    uri: str
    artifacts: Path
    model_name: str
    experiment: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that passed the gate, with everything needed to serve and to explain it.

    Attributes:
        model_id: digest of what the model was made from.
        dataset_id: dataset it was trained on.
        run_id: ZiGong run that released it.
        adapter: folder of the LoRA adapter in safetensors.
        base: folder of the base model.
        threshold: calibrated probability at or above which a sample is called bad; chosen on ``select``.
        calibration: from p_bad to the probability that is scaled.
        card: scaling of the points.
        model_card: markdown.
        params: settings to show in the registry.
        metrics: figures to show in the registry.
    """

    model_id: str
    dataset_id: str
    run_id: str
    adapter: Path
    base: Path
    threshold: float
    calibration: Calibration
    card: Card
    model_card: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The released model as the services read it."""

    version: str
    model_id: str
    dataset_id: str
    run_id: str
    adapter: Path
    base: Path
    threshold: float
    calibration: Calibration
    card: Card


def release(registry: ModelRegistry, candidate: Candidate) -> Champion:
    """Registers the candidate and makes it champion; the same model_id is registered once, however often it is called.

    Every phase looks for its own trace first, so a call that was killed half-way is finished by the next.

    Raises:
        ConfigError: the address or the model_id is not usable.
        DataError: the adapter folder is missing, holds no safetensors, or holds files that could execute code.
    """
    _require_safe(candidate)
    client = _client(registry)
    version = _registered(client, registry, candidate.model_id) or _register(client, registry, candidate)
    promote(registry, str(version.version))
    return _read(client, registry, version)


def promote(registry: ModelRegistry, version: str) -> None:
    """Points the alias ``champion`` at a version; repeating it changes nothing."""
    client = _client(registry)
    current = _aliased(client, registry)
    if current is None or str(current.version) != version:
        client.set_registered_model_alias(registry.model_name, ALIAS, version)


def champion(registry: ModelRegistry) -> Champion | None:
    """The current champion, or None before the first release.

    Raises:
        InfraError: its adapter or base folder is gone.
    """
    client = _client(registry)
    version = _aliased(client, registry)
    return None if version is None else _read(client, registry, version)


def _client(registry: ModelRegistry) -> MlflowClient:
    """MLflow reports usage to its vendor unless told not to before its first import."""
    if registry.uri.startswith("sqlite:") and not registry.uri.startswith("sqlite:////"):
        raise ConfigError(
            f"registry.uri {registry.uri!r} is relative: every working directory would have its own registry",
            action="write an absolute address such as sqlite:////data/mlflow.db",
        )
    _require_name(registry.model_name, "registry.model_name")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if registry.uri.startswith("sqlite:"):
        Path(registry.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)


def _registered(client: MlflowClient, registry: ModelRegistry, model_id: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{registry.model_name}' AND tags.`{_ID_TAG}` = '{model_id}'")
    return found[0] if found else None


def _aliased(client: MlflowClient, registry: ModelRegistry) -> ModelVersion | None:
    models = client.search_registered_models(f"name = '{registry.model_name}'")
    if not models or ALIAS not in models[0].aliases:
        return None
    return client.get_model_version_by_alias(registry.model_name, ALIAS)


def _register(client: MlflowClient, registry: ModelRegistry, candidate: Candidate) -> ModelVersion:
    run = _run(client, registry, candidate)
    _log(client, run.info.run_id, candidate)
    client.set_terminated(run.info.run_id, "FINISHED")
    if not client.search_registered_models(f"name = '{registry.model_name}'"):
        client.create_registered_model(registry.model_name)
    tags = {_ID_TAG: candidate.model_id, "zigong.dataset_id": candidate.dataset_id, "zigong.run_id": candidate.run_id}
    source = f"{run.info.artifact_uri}/adapter"
    return client.create_model_version(registry.model_name, source=source, run_id=run.info.run_id, tags=tags)


def _run(client: MlflowClient, registry: ModelRegistry, candidate: Candidate) -> Run:
    experiment = client.get_experiment_by_name(registry.experiment)
    location = registry.artifacts.resolve().as_uri()
    owner = experiment.experiment_id if experiment else client.create_experiment(registry.experiment, location)
    found = client.search_runs([owner], f"tags.`{_ID_TAG}` = '{candidate.model_id}'", max_results=1)
    tags = {_ID_TAG: candidate.model_id}
    return found[0] if found else client.create_run(owner, tags=tags, run_name=candidate.run_id)


def _log(client: MlflowClient, mlflow_run_id: str, candidate: Candidate) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    client.log_batch(
        mlflow_run_id,
        metrics=[Metric(name, value, now, 0) for name, value in candidate.metrics.items()],
        params=[Param(name, value[:_LONGEST_PARAM]) for name, value in candidate.params.items()],
    )
    client.log_artifacts(mlflow_run_id, str(candidate.adapter), "adapter")
    client.log_text(mlflow_run_id, candidate.model_card, "model_card.md")
    serving = {
        "model_id": candidate.model_id,
        "dataset_id": candidate.dataset_id,
        "run_id": candidate.run_id,
        "base": str(candidate.base.resolve()),
        "threshold": candidate.threshold,
        "calibration": asdict(candidate.calibration),
        "card": candidate.card.model_dump(),
    }
    client.log_text(mlflow_run_id, json.dumps(serving, indent=2, sort_keys=True), _SERVING_FILE)


def _read(client: MlflowClient, registry: ModelRegistry, version: ModelVersion) -> Champion:
    folder = _files(client, registry, str(version.run_id))
    serving_file, adapter = folder / _SERVING_FILE, folder / "adapter"
    if not serving_file.is_file() or not adapter.is_dir():
        raise _gone(registry, version, folder)
    serving = json.loads(serving_file.read_text(encoding="utf-8"))
    if not Path(serving["base"]).is_dir():
        raise _gone(registry, version, Path(serving["base"]))
    return Champion(
        version=str(version.version),
        model_id=serving["model_id"],
        dataset_id=serving["dataset_id"],
        run_id=serving["run_id"],
        adapter=adapter,
        base=Path(serving["base"]),
        threshold=float(serving["threshold"]),
        calibration=Calibration(**serving["calibration"]),
        card=Card.model_validate(serving["card"]),
    )


def _files(client: MlflowClient, registry: ModelRegistry, mlflow_run_id: str) -> Path:
    """The run's folder itself when artifacts are local; a download beside them otherwise."""
    address = urlparse(client.get_run(mlflow_run_id).info.artifact_uri)
    if address.scheme in ("", "file"):
        return Path(url2pathname(address.path))
    target = registry.artifacts / "_downloads" / mlflow_run_id
    target.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(mlflow_run_id, "", str(target)))


def _require_safe(candidate: Candidate) -> None:
    _require_name(candidate.model_id, "model_id")
    files = [path for path in candidate.adapter.rglob("*") if path.is_file()] if candidate.adapter.is_dir() else []
    unsafe = sorted(path.name for path in files if path.suffix in _EXECUTABLE)
    if unsafe or not any(path.suffix == ".safetensors" for path in files):
        raise DataError(
            f"expected an adapter in safetensors and no pickles in {candidate.adapter}, "
            f"found {', '.join(unsafe) or 'no safetensors'}",
            action="save the adapter with safe serialization and release again",
        )


def _require_name(name: str, field_name: str) -> None:
    """Names stand inside MLflow's filter strings, where a quote would change their meaning."""
    if not _SAFE_NAME.fullmatch(name):
        raise ConfigError(
            f"expected {field_name} of letters, digits and _.:-, found {name!r}",
            action=f"choose another {field_name}",
        )


def _gone(registry: ModelRegistry, version: ModelVersion, path: Path) -> InfraError:
    return InfraError(
        f"{registry.model_name} version {version.version} points at {path}, which does not exist or is incomplete",
        action="restore the folder from its backup, or release a model again",
    )
