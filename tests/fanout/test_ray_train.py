from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from zigong.errors import ConfigError, DataError, InfraError
from zigong.fanout.train import run_on_ray
from zigong.recipe import Engine

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
def test_any_other_error_keeps_its_type_and_message(tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        raise ZeroDivisionError("no steps")

    with pytest.raises(ZeroDivisionError, match="no steps"):
        run_on_ray(work, engine=ENGINE, name="fit", storage=tmp_path / "ray")


def test_a_relative_storage_folder_is_rejected() -> None:
    with pytest.raises(ConfigError, match="not absolute"):
        run_on_ray(dict, engine=ENGINE, name="fit", storage=Path("ray"))


@pytest.mark.soak
def test_a_training_that_does_not_begin_is_an_infra_error(tmp_path: Path) -> None:
    impatient = ENGINE.model_copy(update={"ray_idle_timeout_s": 1})
    with pytest.raises(InfraError, match="the training has not begun after 1 s"):
        run_on_ray(dict, engine=impatient, name="late", storage=tmp_path / "ray")
