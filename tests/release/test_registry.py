from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities.model_registry import ModelVersion
from safetensors.numpy import load_file, save_file

from zigong.errors import ConfigError, DataError, InfraError
from zigong.evaluation.calibration import Calibration
from zigong.recipe import Card
from zigong.release import registry as room
from zigong.release.registry import Candidate, ModelRegistry, champion, promote, release


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sqlite file for the module: creating MLflow's tables costs seconds, models are apart by name."""
    return tmp_path_factory.mktemp("mlflow") / "inner" / "mlflow.db"


@pytest.fixture
def models(database: Path, tmp_path: Path) -> ModelRegistry:
    name = tmp_path.name
    return ModelRegistry(
        uri=f"sqlite:///{database}", artifacts=tmp_path / "artifacts", model_name=name, experiment=name
    )


def _candidate(folder: Path, model_id: str = "model-1", weight: float = 1.0) -> Candidate:
    adapter, base = folder / f"adapter-{model_id}", folder / "base"
    adapter.mkdir(exist_ok=True)
    base.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text("{}")
    save_file({"lora_B": np.full((2, 2), weight)}, adapter / "adapter_model.safetensors")
    return Candidate(
        model_id=model_id,
        dataset_id="dataset-1",
        run_id="run-1",
        adapter=adapter,
        base=base,
        threshold=0.125,
        calibration=Calibration(intercept=-0.3, slope=1.25),
        card=Card(base_score=650),
        model_card="# a card",
        params={"recipe": "demo"},
        metrics={"auc": 0.77},
    )


def _versions(models: ModelRegistry) -> list[ModelVersion]:
    return list(room._client(models).search_model_versions(f"name = '{models.model_name}'"))


def test_before_the_first_release_there_is_no_champion(models: ModelRegistry) -> None:
    assert champion(models) is None


def test_the_champion_is_what_was_released(models: ModelRegistry, tmp_path: Path) -> None:
    candidate = _candidate(tmp_path, weight=3.0)
    released = release(models, candidate)
    found = champion(models)
    assert found == released
    assert found is not None
    for name in ("model_id", "dataset_id", "run_id", "base", "threshold", "calibration", "card"):
        assert getattr(found, name) == getattr(candidate, name), name
    assert (load_file(found.adapter / "adapter_model.safetensors")["lora_B"] == 3.0).all()
    assert (found.adapter.parent / "model_card.md").read_text() == "# a card"


def test_releasing_the_same_model_again_makes_no_second_version(models: ModelRegistry, tmp_path: Path) -> None:
    first = release(models, _candidate(tmp_path))
    assert release(models, _candidate(tmp_path)) == first
    assert len(_versions(models)) == 1


def test_params_metrics_and_lineage_stand_in_the_registry(models: ModelRegistry, tmp_path: Path) -> None:
    release(models, _candidate(tmp_path))
    (version,) = _versions(models)
    run = room._client(models).get_run(version.run_id)
    assert (run.data.params, run.data.metrics, run.info.status) == ({"recipe": "demo"}, {"auc": 0.77}, "FINISHED")
    lineage = {"zigong.model_id": "model-1", "zigong.dataset_id": "dataset-1", "zigong.run_id": "run-1"}
    assert version.tags == lineage


def test_a_later_release_takes_over_and_the_former_can_be_promoted_back(models: ModelRegistry, tmp_path: Path) -> None:
    first = release(models, _candidate(tmp_path))
    second = release(models, _candidate(tmp_path, model_id="model-2"))
    assert champion(models) == second
    promote(models, first.version)
    promote(models, first.version)
    assert champion(models) == first
    assert len(_versions(models)) == 2


@pytest.mark.parametrize("killed_in", ["_log", "promote"])
def test_a_release_that_was_killed_is_finished_by_the_next(
    models: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room, killed_in, dies)
        with pytest.raises(KeyboardInterrupt):
            release(models, _candidate(tmp_path))
    assert champion(models) is None
    found = release(models, _candidate(tmp_path))
    assert champion(models) == found
    assert len(_versions(models)) == 1
    client = room._client(models)
    experiment = client.get_experiment_by_name(models.experiment)
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "nested/state.pkl"])
def test_files_that_could_execute_code_are_never_registered(models: ModelRegistry, tmp_path: Path, name: str) -> None:
    candidate = _candidate(tmp_path)
    file = candidate.adapter / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    with pytest.raises(DataError, match=file.name):
        release(models, candidate)
    assert _versions(models) == []


def test_an_adapter_without_safetensors_is_refused(models: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no safetensors"):
        release(models, replace(_candidate(tmp_path), adapter=tmp_path / "absent"))


def test_a_champion_whose_base_is_gone_says_so(models: ModelRegistry, tmp_path: Path) -> None:
    released = release(models, _candidate(tmp_path))
    released.base.rmdir()
    with pytest.raises(InfraError, match="base"):
        champion(models)


def test_a_relative_sqlite_address_is_refused(models: ModelRegistry) -> None:
    with pytest.raises(ConfigError, match="relative"):
        champion(replace(models, uri="sqlite:///mlflow.db"))


@pytest.mark.parametrize("model_id", ["", "a' OR '1' = '1", "x" * 200])
def test_a_model_id_cannot_change_the_query(models: ModelRegistry, tmp_path: Path, model_id: str) -> None:
    candidate = replace(_candidate(tmp_path), model_id=model_id)
    with pytest.raises(ConfigError, match="model_id"):
        release(models, candidate)


def test_mlflow_does_not_report_usage(models: ModelRegistry) -> None:
    ask = (
        "import sys\nfrom pathlib import Path\nfrom zigong.release.registry import ModelRegistry, champion\n"
        f"champion(ModelRegistry(uri={models.uri!r}, artifacts=Path('x'), model_name='m', experiment='e'))\n"
        "client = sys.modules['mlflow.telemetry.client'].get_telemetry_client()\n"
        "raise SystemExit(0 if client is None else 1)\n"
    )
    quiet = ("PYTEST", "CI", "GITHUB", "MLFLOW", "DO_NOT_TRACK")  # under these names MLflow is silent by itself
    environment = {name: value for name, value in os.environ.items() if not name.startswith(quiet)}
    assert subprocess.run([sys.executable, "-c", ask], env=environment, check=False).returncode == 0
