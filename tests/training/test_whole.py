"""``finetune.lora: null``: all weight matrices are trained, and an adapter of full rank holds what was learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from tests.support.tiny_models import make_base, make_samples
from zigong.errors import ConfigError
from zigong.recipe import FinalTraining
from zigong.tokens.samples import Samples
from zigong.training.adapters import load_adapted, load_merged
from zigong.training.base import load_model
from zigong.training.trainer import train_adapter
from zigong.training.whole import trainable_base

RATE = 0.01
SAMPLES = make_samples(8)
SETTINGS = FinalTraining(
    lora=None, learning_rate=RATE, warmup_steps=0, batch_size=8, context_length=64, schedule="constant"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("whole")
    base = make_base(place / "base")
    train_adapter(base, SAMPLES, SETTINGS, seed=3, torch_threads=1, folder=place / "adapter")
    return base, place / "adapter"


def _matrices(model: nn.Module) -> dict[str, Tensor]:
    return {name: item.detach() for name, item in model.named_parameters() if item.dim() == 2}


def _logits(model: nn.Module, samples: Samples) -> Tensor:
    with torch.inference_mode():
        rows = [model(input_ids=torch.tensor(ids).long()[None]).logits[0, -1] for ids in samples.input_ids]
    return torch.stack(rows)


def _naive_step(base: Path) -> PreTrainedModel:
    """One AdamW step of every matrix on the mean over samples of each sample's mean loss."""
    model = load_model(base)
    losses = []
    for prompt, answer in zip(SAMPLES.input_ids, SAMPLES.completion_ids, strict=True):
        ids = torch.tensor(np.concatenate([prompt, answer])).long()
        losses.append(cross_entropy(model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1], ids[len(prompt) :]))
    torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
    torch.optim.AdamW([item for item in model.parameters() if item.dim() == 2], lr=RATE, weight_decay=0.0).step()
    return model


def test_a_step_moves_every_matrix_as_a_naive_step_does(folders: tuple[Path, Path]) -> None:
    base, adapter = folders
    before, expected, got = load_model(base), _naive_step(base), load_merged(base, adapter)
    assert _matrices(got).keys() == _matrices(before).keys()
    for name, matrix in _matrices(got).items():
        torch.testing.assert_close(matrix, _matrices(expected)[name], rtol=1e-3, atol=2e-5)
        assert not torch.equal(matrix, _matrices(before)[name]), f"{name} did not learn"
    for name, item in got.named_parameters():
        if item.dim() == 1:
            assert torch.equal(item, before.get_parameter(name))


def test_the_adapter_beside_its_base_answers_as_the_merged_model(folders: tuple[Path, Path]) -> None:
    beside, merged = _logits(load_adapted(*folders), SAMPLES), _logits(load_merged(*folders), SAMPLES)
    torch.testing.assert_close(beside, merged, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged, _logits(load_model(folders[0]), SAMPLES), atol=1e-2)


def test_one_matrix_for_input_and_output_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model = load_model(folders[0])
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"one matrix for input and output words"):
        trainable_base(tmp_path)
