"""Less memory for the same model: gradient checkpointing and bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_models import LORA, make_base, make_samples
from zigong.recipe import FinalTraining
from zigong.tokens.samples import Samples
from zigong.training.adapters import read_adapter
from zigong.training.trainer import train_adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("precision") / "base")


def _fit(base: Path, samples: Samples, folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    known = {"learning_rate": 0.02, "warmup_steps": 0, "batch_size": 8, "context_length": 64}
    settings = FinalTraining.model_validate({**known, **changes})
    train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=folder)
    return read_adapter(folder, digest=None)


@pytest.mark.parametrize("lora", [LORA, None], ids=["adapter", "all weights"])
def test_gradient_checkpointing_trains_the_same_model(base: Path, tmp_path: Path, lora: Any) -> None:
    plain = _fit(base, make_samples(24), tmp_path / "plain", lora=lora)
    found = _fit(base, make_samples(24), tmp_path / "less memory", lora=lora, gradient_checkpointing=True)
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lora", [LORA, None], ids=["adapter", "all weights"])
def test_bf16_trains_nearly_the_same_model_and_keeps_its_weights_in_fp32(base: Path, tmp_path: Path, lora: Any) -> None:
    wide = _fit(base, make_samples(48), tmp_path / "fp32", lora=lora, learning_rate=1e-3)
    short = _fit(base, make_samples(48), tmp_path / "bf16", lora=lora, learning_rate=1e-3, precision="bf16")
    assert {tensor.dtype for tensor in short.values()} == {torch.float32}
    start = _fit(base, make_samples(48), tmp_path / "start", lora=lora, learning_rate=1e-9)
    moved = [torch.cat([(found[name] - start[name]).flatten() for name in start]) for found in (wide, short)]
    assert float(torch.cosine_similarity(moved[0], moved[1], dim=0)) > 0.95
    assert not torch.equal(moved[0], moved[1])
