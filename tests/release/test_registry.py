from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities.model_registry import ModelVersion
from safetensors.numpy import load_file, save_file

from zigong.errors import ConfigError, DataError, InfraError
from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.calibration import Calibration
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Card, Horizon, Instructions, Split
from zigong.release import registry as registry_module
from zigong.release.model import Model, model_as_text
from zigong.release.registry import Candidate, ModelRegistry, champion, promote, release, retire


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sqlite file for the module: creating MLflow's tables takes seconds; tests use separate model names."""
    return tmp_path_factory.mktemp("mlflow") / "inner" / "mlflow.db"


@pytest.fixture
def models(database: Path, tmp_path: Path) -> ModelRegistry:
    name = tmp_path.name
    return ModelRegistry(
        uri=f"sqlite:///{database}", artifacts=tmp_path / "artifacts", model_name=name, experiment=name
    )


def _folders(folder: Path, model_id: str, weight: float) -> ModelFolders:
    adapter, base = folder / f"adapter-{model_id}", folder / "base"
    for place in (adapter, base):
        place.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text("{}")
    save_file({"lora_B": np.full((2, 2), weight)}, adapter / "adapter_model.safetensors")
    for name in ("config.json", "tokenizer.json", "manifest.json"):
        (base / name).write_text("{}")
    save_file({"embed": np.ones(3)}, base / "model.safetensors")
    return ModelFolders(base=base, adapter=adapter)


def _candidate(folder: Path, model_id: str = "model-1", weight: float = 1.0) -> Candidate:
    folders = _folders(folder, model_id, weight)
    prompts = PromptSpec(settings=Instructions(), horizon=Horizon(), timezone="Asia/Shanghai", context_length=256)
    model = Model(
        model_id=model_id,
        run_id="run-1",
        dataset_id="dataset-1",
        mix_id="mix-1",
        recipe_digest="d" * 64,
        split=Split(),
        asked=AskedModel.of(prompts, folders),
        calibration=Calibration(intercept=-0.3, slope=1.25),
        threshold=0.125,
        card=Card(base_score=650),
    )
    return Candidate(
        model=model, folders=folders, model_card="# a card", params={"recipe": "demo"}, metrics={"auc": 0.77}
    )


def _versions(models: ModelRegistry) -> list[ModelVersion]:
    return list(registry_module._client(models).search_model_versions(f"name = '{models.model_name}'"))


def test_before_the_first_release_there_is_no_champion(models: ModelRegistry) -> None:
    assert champion(models) is None


def test_the_champion_equals_the_released_value_and_has_its_own_files(models: ModelRegistry, tmp_path: Path) -> None:
    candidate = _candidate(tmp_path, weight=3.0)
    released = release(models, candidate)
    for folder in (candidate.folders.base, candidate.folders.adapter):  # as when a run is deleted
        shutil.rmtree(folder)
    found = champion(models)
    assert found is not None
    assert found == released
    assert found.model == candidate.model
    candidate.model.asked.base.verify(found.folders.base)
    assert (load_file(found.folders.adapter / "adapter_model.safetensors")["lora_B"] == 3.0).all()
    assert (found.folders.adapter.parent / "model_card.md").read_text() == "# a card"


def test_models_on_one_base_share_one_copy_of_it(models: ModelRegistry, tmp_path: Path) -> None:
    first, second = (release(models, _candidate(tmp_path, model_id=name)) for name in ("model-1", "model-2"))
    assert first.folders.base == second.folders.base
    (copy,) = (models.artifacts / "bases").iterdir()
    assert sorted(file.name for file in copy.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_changed_copy_of_the_base_is_rejected_at_the_next_release(models: ModelRegistry, tmp_path: Path) -> None:
    released = release(models, _candidate(tmp_path))
    (released.folders.base / "config.json").write_text("[]")
    with pytest.raises(DataError, match=r"config\.json: expected SHA-256"):
        release(models, _candidate(tmp_path, model_id="model-2"))


def test_releasing_the_same_model_again_creates_no_second_version(models: ModelRegistry, tmp_path: Path) -> None:
    first = release(models, _candidate(tmp_path))
    assert release(models, _candidate(tmp_path)) == first
    assert len(_versions(models)) == 1


def test_the_registry_contains_params_metrics_and_lineage(models: ModelRegistry, tmp_path: Path) -> None:
    release(models, _candidate(tmp_path))
    (version,) = _versions(models)
    run = registry_module._client(models).get_run(version.run_id)
    assert (run.data.params, run.data.metrics, run.info.status) == ({"recipe": "demo"}, {"auc": 0.77}, "FINISHED")
    lineage = {"zigong.model_id": "model-1", "zigong.dataset_id": "dataset-1", "zigong.run_id": "run-1"}
    assert version.tags == lineage


def test_a_later_release_becomes_champion_and_the_former_can_be_promoted_again(
    models: ModelRegistry, tmp_path: Path
) -> None:
    first = release(models, _candidate(tmp_path))
    second = release(models, _candidate(tmp_path, model_id="model-2"))
    assert champion(models) == second
    promote(models, first.version)
    promote(models, first.version)
    assert champion(models) == first
    assert len(_versions(models)) == 2


@pytest.mark.parametrize("killed_in", ["_log", "promote"])
def test_a_killed_release_is_completed_by_the_next(
    models: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry_module, killed_in, killed)
        with pytest.raises(KeyboardInterrupt):
            release(models, _candidate(tmp_path))
    assert champion(models) is None
    found = release(models, _candidate(tmp_path))
    assert champion(models) == found
    assert len(_versions(models)) == 1
    client = registry_module._client(models)
    experiment = client.get_experiment_by_name(models.experiment)
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "nested/state.pkl"])
def test_files_that_could_execute_code_are_never_registered(models: ModelRegistry, tmp_path: Path, name: str) -> None:
    candidate = _candidate(tmp_path)
    file = candidate.folders.adapter / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    with pytest.raises(DataError, match=file.name):
        release(models, candidate)
    assert _versions(models) == []


def test_an_adapter_without_safetensors_is_rejected(models: ModelRegistry, tmp_path: Path) -> None:
    candidate = _candidate(tmp_path)
    with pytest.raises(DataError, match="no safetensors"):
        release(models, replace(candidate, folders=replace(candidate.folders, adapter=tmp_path / "absent")))


def test_a_champion_whose_base_is_missing_is_rejected(models: ModelRegistry, tmp_path: Path) -> None:
    released = release(models, _candidate(tmp_path))
    shutil.rmtree(released.folders.base)
    with pytest.raises(InfraError, match="base"):
        champion(models)


def test_a_relative_sqlite_address_is_rejected(models: ModelRegistry) -> None:
    with pytest.raises(ConfigError, match="relative"):
        champion(replace(models, uri="sqlite:///mlflow.db"))


@pytest.mark.parametrize("model_id", ["", "a' OR '1' = '1", "x" * 200])
def test_a_model_id_that_could_alter_the_query_is_rejected(
    models: ModelRegistry, tmp_path: Path, model_id: str
) -> None:
    candidate = _candidate(tmp_path)
    with pytest.raises(ConfigError, match="model_id"):
        release(models, replace(candidate, model=replace(candidate.model, model_id=model_id)))


@pytest.mark.parametrize("folder", ["base", "adapter"])
def test_a_file_added_to_a_released_model_is_rejected_by_name(
    models: ModelRegistry, tmp_path: Path, folder: str
) -> None:
    released = release(models, _candidate(tmp_path))
    (getattr(released.folders, folder) / "chat_template.jinja").write_text("x")
    with pytest.raises(DataError, match=r"chat_template\.jinja as well"):
        champion(models)


def test_a_registry_of_an_earlier_version_is_rejected_with_the_next_action(
    models: ModelRegistry, tmp_path: Path
) -> None:
    released = release(models, _candidate(tmp_path))
    former = {"model_id": "model-1", "base": str(tmp_path / "base"), "threshold": 0.1}
    (released.folders.adapter.parent / "serving.json").write_text(json.dumps(former))
    with pytest.raises(DataError, match=r"version 1, .*serving\.json: expected schema version 5, found none") as error:
        champion(models)
    assert "registry.model_name" in error.value.action


def test_the_value_of_another_model_is_rejected(models: ModelRegistry, tmp_path: Path) -> None:
    released = release(models, _candidate(tmp_path))
    other = replace(released.model, model_id="model-2")
    (released.folders.adapter.parent / "serving.json").write_text(model_as_text(other))
    with pytest.raises(DataError, match="expected the model model-1, found model-2"):
        champion(models)


def test_without_the_alias_there_is_no_champion_until_the_next_release(models: ModelRegistry, tmp_path: Path) -> None:
    release(models, _candidate(tmp_path))
    retire(models)
    retire(models)
    assert champion(models) is None
    assert release(models, _candidate(tmp_path)).version == "1"


@pytest.mark.soak
def test_mlflow_does_not_report_usage(models: ModelRegistry) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom zigong.release.registry import ModelRegistry, champion\n"
        f"champion(ModelRegistry(uri={models.uri!r}, artifacts=Path('x'), model_name='m', experiment='e'))\n"
        "client = sys.modules['mlflow.telemetry.client'].get_telemetry_client()\n"
        "raise SystemExit(0 if client is None else 1)\n"
    )
    quiet = (
        "PYTEST",
        "CI",
        "GITHUB",
        "MLFLOW",
        "DO_NOT_TRACK",
    )  # MLflow disables telemetry itself if one of these is set
    environment = {name: value for name, value in os.environ.items() if not name.startswith(quiet)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0
