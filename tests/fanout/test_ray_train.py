from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_models import LORA, make_base, make_samples
from zigong.errors import ConfigError, DataError, InfraError
from zigong.fanout.cluster import WorkerError
from zigong.fanout.train import run_on_ray
from zigong.recipe import Engine, FinalTraining
from zigong.training.adapters import read_adapter
from zigong.training.snapshots import Snapshots
from zigong.training.trainer import train_adapter

ENGINE = Engine(ray_cpus=2, ray_object_store_mb=100)
pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.mark.soak
def test_the_worker_trains_and_returns_its_result(tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        import ray.train

        (tmp_path / "written").write_text("here")
        return {"world": ray.train.get_context().get_world_size(), "eta": [0.5, 1e-9], "missing": None}

    of_ctrl_c = signal.getsignal(signal.SIGINT)
    result = run_on_ray(work, engine=ENGINE, name="fit", storage=tmp_path / "ray")
    assert signal.getsignal(signal.SIGINT) is of_ctrl_c
    assert result == {"world": 1, "eta": [0.5, 1e-9], "missing": None}
    assert (tmp_path / "written").read_text() == "here"


@pytest.mark.soak
def test_a_zigong_error_keeps_its_type_and_action(tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        raise DataError("sample s1 has no tokens", action="quarantine it")

    with pytest.raises(DataError, match="sample s1") as caught:
        run_on_ray(work, engine=ENGINE, name="fit", storage=tmp_path / "ray")
    assert caught.value.action == "quarantine it"


@pytest.mark.soak
def test_any_other_error_keeps_its_message(tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        raise ZeroDivisionError("no steps")

    with pytest.raises(WorkerError, match="ZeroDivisionError: no steps"):
        run_on_ray(work, engine=ENGINE, name="fit", storage=tmp_path / "ray")


def test_a_relative_storage_folder_is_rejected() -> None:
    with pytest.raises(ConfigError, match="not absolute"):
        run_on_ray(dict, engine=ENGINE, name="fit", storage=Path("ray"))


@pytest.mark.soak
def test_a_training_that_does_not_begin_is_an_infra_error(tmp_path: Path) -> None:
    impatient = ENGINE.model_copy(update={"ray_idle_timeout_s": 1})
    with pytest.raises(InfraError, match="the training has not begun after 1 s"):
        run_on_ray(dict, engine=impatient, name="late", storage=tmp_path / "ray")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_training_goes_on_after_its_worker_was_killed(tmp_path: Path, workers: int) -> None:
    engine = ENGINE.model_copy(update={"training_workers": workers, "training_max_failures": 1})
    base, settings = make_base(tmp_path / "base"), FinalTraining(lora=LORA, batch_size=8, context_length=64)
    began = tmp_path / "began"

    def train(folder: Path, after: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
        often = Snapshots(folder=tmp_path / "snapshots" / folder.name, every_s=0)

        def progress(done: int, _steps: int, _loss: float) -> None:
            after(done)

        samples = make_samples(64)
        train_adapter(
            base, samples, settings, seed=3, torch_threads=1, folder=folder, progress=progress, snapshots=often
        )
        return {}

    def killed(done: int) -> None:
        with began.open("a") as file:
            file.write(f"{done}\n")
        if done == 5 and began.read_text().splitlines().count("5") == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train(tmp_path / "alone")
    run_on_ray(lambda: train(tmp_path / "of_ray", killed), engine=engine, name="fit", storage=tmp_path / "ray")
    assert began.read_text().split() == ["1", "2", "3", "4", "5", "6", "7", "8"]
    expected, got = (read_adapter(tmp_path / name, digest=None) for name in ("alone", "of_ray"))
    tolerance = 0 if workers == 1 else 1e-5
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=tolerance)
