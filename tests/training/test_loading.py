"""Bases held in 4 bits in a training, and the attention kernel that needs a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tests.support.tiny_models import LORA, make_base, make_samples
from zigong.errors import ConfigError
from zigong.recipe import FinalTraining
from zigong.training import loading
from zigong.training.adapters import new_adapter, read_adapter
from zigong.training.base import load_model
from zigong.training.loading import frozen_options
from zigong.training.pass_costs import NF4_BYTES
from zigong.training.trainer import train_adapter

pytest.importorskip("bitsandbytes", reason="requirements/dev.txt installs it")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("loading") / "base")


def _settings(**changes: object) -> FinalTraining:
    known = {"lora": LORA, "learning_rate": 0.02, "batch_size": 8, "context_length": 64, "epochs": 6}
    return FinalTraining.model_validate({**known, **changes})


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_an_adapter_trained_on_a_base_of_4_bits_is_nearly_that_of_the_base_itself(
    base: Path, tmp_path: Path, engine: str
) -> None:
    samples, losses, moved = make_samples(48), {}, {}
    for held in (None, "nf4"):
        folder = tmp_path / str(held)
        trained = train_adapter(
            base, samples, _settings(engine=engine, quantise=held), seed=3, torch_threads=1, folder=folder
        )
        losses[held] = trained.final_loss
        weights = read_adapter(folder, digest=trained.adapter_digest)
        moved[held] = np.concatenate([item.numpy().ravel() for name, item in sorted(weights.items())])
    assert losses["nf4"] == pytest.approx(losses[None], abs=0.05)
    assert 0.9 < np.corrcoef(moved[None], moved["nf4"])[0, 1] < 1


def test_frozen_matrices_of_the_layers_take_4_bits_and_nothing_else_does(base: Path) -> None:
    held = new_adapter(base, LORA, seed=1, **frozen_options(_settings(quantise="nf4"))).get_base_model()
    plain = load_model(base)
    matrices = {
        name.replace(".base_layer", ""): item
        for name, item in held.named_modules()
        if isinstance(item, nn.Linear) and "lora" not in name
    }
    of_layers = {name: item for name, item in matrices.items() if name != "lm_head"}
    stated = sum(item.weight.numel() + vars(item.weight)["quant_state"].absmax.numel() for item in of_layers.values())
    numbers = sum(item.weight.numel() for name, item in plain.named_modules() if name in of_layers)
    assert numbers
    assert stated / numbers == pytest.approx(NF4_BYTES, rel=0.01)
    assert matrices["lm_head"].weight.equal(plain.lm_head.weight)


def test_what_a_machine_lacks_is_refused_by_name(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flash = _settings(attention="flash", precision="bf16")
    with pytest.raises(ConfigError, match="attention: flash needs the package flash-attn and a GPU"):
        train_adapter(base, make_samples(8), flash, seed=3, torch_threads=1, folder=tmp_path / "flash")
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="quantise: nf4 needs the package bitsandbytes"):
        train_adapter(base, make_samples(8), _settings(quantise="nf4"), seed=3, torch_threads=1, folder=tmp_path / "q")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantise": "nf4", "lora": None}, "quantise holds frozen weights in 4 bits"),
        ({"attention": "flash"}, "attention: flash needs precision: bf16 and engine: samples"),
        ({"attention": "flash", "precision": "bf16", "engine": "trees"}, "it has no masks of trees"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _settings(**changes)
