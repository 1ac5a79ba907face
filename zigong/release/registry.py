"""The model registry: MLflow stores the released models, their data, and which version is the champion.

A version is a folder of safetensors, a card and ``serving.json``, and a base in the artifacts that all its versions
share; nothing in it is unpickled or executed, and nothing refers to the folder of a run. Only this module imports
MLflow.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from zigong.errors import ConfigError, DataError, InfraError
from zigong.evaluation.asked_model import ModelFolders
from zigong.release.model import Model, model_as_text, model_from_text
from zigong.training.file_digests import FileDigests

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"

_ID_TAG = "zigong.model_id"
_SERVING_FILE = "serving.json"
_ADAPTER = "adapter"
_EXECUTABLE = frozenset({".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"})
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_LONGEST_PARAM = 6000  # limit of MLflow


@dataclass(frozen=True, kw_only=True)
class ModelRegistry:
    """Where models are registered.

    Attributes:
        uri: MLflow address; sqlite by absolute path, such as ``sqlite:////data/mlflow.db``.
        artifacts: folder for the files of every version.
        model_name: registered model whose alias ``champion`` is used for scoring.
        experiment: MLflow experiment of the runs.
    """

    uri: str
    artifacts: Path
    model_name: str
    experiment: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that passed the gate, with its files and the information that the registry displays.

    Attributes:
        model: the value to register.
        folders: the folders of its files before the release; other files in them are not registered.
        model_card: markdown.
        params: settings to display in the registry.
        metrics: figures to display in the registry.
    """

    model: Model
    folders: ModelFolders
    model_card: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The released model in the registry.

    Attributes:
        version: version number in the registry.
        model: the released value.
        folders: its files in the artifacts of the registry; their digests are verified on loading.
    """

    version: str
    model: Model
    folders: ModelFolders


def release(registry: ModelRegistry, candidate: Candidate) -> Champion:
    """Registers the candidate and makes it champion; idempotent: a model_id is registered only once.

    Every phase first looks for its own result, so the next call completes one that was killed.

    Raises:
        ConfigError: the address or the model_id is not usable.
        DataError: the files of a folder differ from the digests of the model, or could execute code.
    """
    _require_safe(candidate)
    client = _client(registry)
    version = _registered(client, registry, candidate.model.model_id) or _register(client, registry, candidate)
    promote(registry, str(version.version))
    return _read(client, registry, version)


def promote(registry: ModelRegistry, version: str) -> None:
    """Assigns the alias ``champion`` to a version; idempotent."""
    client = _client(registry)
    current = _aliased(client, registry)
    if current is None or str(current.version) != version:
        client.set_registered_model_alias(registry.model_name, ALIAS, version)


def retire(registry: ModelRegistry) -> None:
    """Removes the alias ``champion``: the next model is compared with no champion."""
    client = _client(registry)
    if _aliased(client, registry) is not None:
        client.delete_registered_model_alias(registry.model_name, ALIAS)


def champion(registry: ModelRegistry) -> Champion | None:
    """The current champion, or None before the first release.

    Raises:
        DataError: another version of ZiGong registered it, or its folders contain unregistered files.
        InfraError: its adapter or base folder is missing.
    """
    client = _client(registry)
    version = _aliased(client, registry)
    return None if version is None else _read(client, registry, version)


def _client(registry: ModelRegistry) -> MlflowClient:
    """Disables telemetry, which MLflow configures at its first import."""
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
    model = candidate.model
    _store_base(registry, model.asked.base, candidate.folders.base)
    run = _run(client, registry, model)
    _log(client, run.info.run_id, candidate)
    client.set_terminated(run.info.run_id, "FINISHED")
    if not client.search_registered_models(f"name = '{registry.model_name}'"):
        client.create_registered_model(registry.model_name)
    tags = {_ID_TAG: model.model_id, "zigong.dataset_id": model.dataset_id, "zigong.run_id": model.run_id}
    source = f"{run.info.artifact_uri}/{_ADAPTER}"
    return client.create_model_version(registry.model_name, source=source, run_id=run.info.run_id, tags=tags)


def _base_folder(registry: ModelRegistry, base: FileDigests) -> Path:
    """The folder of a base in the registry, shared by its models."""
    return registry.artifacts / "bases" / base.digest


def _store_base(registry: ModelRegistry, base: FileDigests, source: Path) -> None:
    """Copies a base into the artifacts unless it exists there; the copy is atomic."""
    target = _base_folder(registry, base)
    if target.is_dir():
        base.verify(target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        partial = Path(folder, "files")
        partial.mkdir()
        for name in base.files:
            shutil.copyfile(source / name, partial / name)
        base.verify(partial)
        try:
            partial.rename(target)
        except OSError:  # a concurrent release created it first
            base.verify(target)


def _run(client: MlflowClient, registry: ModelRegistry, model: Model) -> Run:
    experiment = client.get_experiment_by_name(registry.experiment)
    location = registry.artifacts.resolve().as_uri()
    owner = experiment.experiment_id if experiment else client.create_experiment(registry.experiment, location)
    found = client.search_runs([owner], f"tags.`{_ID_TAG}` = '{model.model_id}'", max_results=1)
    tags = {_ID_TAG: model.model_id}
    return found[0] if found else client.create_run(owner, tags=tags, run_name=model.run_id)


def _log(client: MlflowClient, mlflow_run_id: str, candidate: Candidate) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    client.log_batch(
        mlflow_run_id,
        metrics=[Metric(name, value, now, 0) for name, value in candidate.metrics.items()],
        params=[Param(name, value[:_LONGEST_PARAM]) for name, value in candidate.params.items()],
    )
    for name in candidate.model.asked.adapter.files:
        client.log_artifact(mlflow_run_id, str(candidate.folders.adapter / name), _ADAPTER)
    fusion = candidate.model.fusion
    if fusion is not None and candidate.folders.added is not None:
        for name in fusion.files.files:
            client.log_artifact(mlflow_run_id, str(candidate.folders.added / name), fusion.FOLDER)
    client.log_text(mlflow_run_id, candidate.model_card, "model_card.md")
    client.log_text(mlflow_run_id, model_as_text(candidate.model), _SERVING_FILE)


def _read(client: MlflowClient, registry: ModelRegistry, version: ModelVersion) -> Champion:
    folder = _files(client, registry, str(version.run_id))
    serving_file, adapter = folder / _SERVING_FILE, folder / _ADAPTER
    if not serving_file.is_file() or not adapter.is_dir():
        raise _missing(registry, version, folder)
    origin = f"{registry.model_name} version {version.version}, {serving_file}"
    model = model_from_text(serving_file.read_text(encoding="utf-8"), origin=origin)
    if model.model_id != version.tags.get(_ID_TAG):
        raise DataError(
            f"{origin}: expected the model {version.tags.get(_ID_TAG)}, found {model.model_id}",
            action="restore the file from its backup, or release a model again",
        )
    base = _base_folder(registry, model.asked.base)
    if not base.is_dir():
        raise _missing(registry, version, base)
    model.asked.adapter.refuse_others(adapter)
    model.asked.base.refuse_others(base)
    added = folder / model.fusion.FOLDER if model.fusion is not None else None
    if model.fusion is not None and added is not None:
        model.fusion.files.refuse_others(added)
    return Champion(
        version=str(version.version), model=model, folders=ModelFolders(base=base, adapter=adapter, added=added)
    )


def _files(client: MlflowClient, registry: ModelRegistry, mlflow_run_id: str) -> Path:
    """The run's own folder if artifacts are local; otherwise a download in the artifacts."""
    address = urlparse(client.get_run(mlflow_run_id).info.artifact_uri)
    if address.scheme in ("", "file"):
        return Path(url2pathname(address.path))
    target = registry.artifacts / "_downloads" / mlflow_run_id
    target.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(mlflow_run_id, "", str(target)))


def _require_safe(candidate: Candidate) -> None:
    """Requires a model_id that cannot alter a query, files that cannot execute code, and the digests of the model."""
    _require_name(candidate.model.model_id, "model_id")
    folder, asked = candidate.folders.adapter, candidate.model.asked
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    unsafe = sorted(path.name for path in files if path.suffix in _EXECUTABLE)
    if unsafe or not any(path.suffix == ".safetensors" for path in files):
        raise DataError(
            f"expected an adapter in safetensors and no pickle in {folder}, "
            f"found {', '.join(unsafe) or 'no safetensors'}",
            action="save the adapter with safe serialization and release again",
        )
    asked.adapter.verify(folder)
    asked.base.verify(candidate.folders.base)
    if candidate.model.fusion is not None and candidate.folders.added is not None:
        candidate.model.fusion.files.verify(candidate.folders.added)


def _require_name(name: str, field_name: str) -> None:
    """Names are inserted into MLflow's filter strings, where a quote would alter the query."""
    if not _SAFE_NAME.fullmatch(name):
        raise ConfigError(
            f"expected {field_name} of letters, digits and _.:-, found {name!r}",
            action=f"choose another {field_name}",
        )


def _missing(registry: ModelRegistry, version: ModelVersion, path: Path) -> InfraError:
    return InfraError(
        f"{registry.model_name} version {version.version} refers to {path}, which does not exist or is incomplete",
        action="restore the folder from its backup, or release a model again",
    )
