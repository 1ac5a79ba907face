"""Gradient products: types of LoRA, precisions, many vectors, and unsupported adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from benchmarks.scorers.stacked import score_against
from tests.support.influence_oracle import TRAIN, Setting, naive_gradients
from tests.support.tiny_models import LORA, make_agent_settings, make_base, make_samples
from zigong.errors import ConfigError, DataError
from zigong.influence.capture import (
    OpenAgent,
    open_agent,
    pass_through,
    sample_gradients,
    use_checkpoint,
)
from zigong.influence.factorised import Matrices
from zigong.influence.lora import lora_pairs, shared_inputs
from zigong.influence.score import score_samples
from zigong.influence.sinks import Contraction, Matched
from zigong.influence.target_sums import target_gradients
from zigong.recipe import Influence, Lora
from zigong.tokens.samples import Samples, batch_of
from zigong.training.base import load_model
from zigong.training.checkpoints import read_checkpoints
from zigong.training.trainer import train_agent

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
KINDS = {
    "one_target": Lora(r=2, alpha=4, targets=("v_proj",)),
    "all_linear": Lora(r=3, alpha=6, targets=ALL_LINEAR),
    "patterns": Lora(r=3, alpha=6, targets=ALL_LINEAR, rank_pattern={"q_proj": 5}, alpha_pattern={"v_proj": 9}),
    "rank_stabilised": Lora(r=4, alpha=6, rslora=True),
}


def flat(matrices: Matrices) -> Tensor:
    """[N, P] in the order of the model's parameters: A, then B, layer by layer."""
    return torch.cat([part.flatten(1) for pair in matrices for part in pair], 1).double()


def everything(samples: Samples) -> np.ndarray:
    return np.arange(len(samples))


@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_equal_autograds_for_every_kind_of_lora(tmp_path: Path, kind: str) -> None:
    base, samples = make_base(tmp_path / "base"), make_samples(7, dates=TRAIN[:2])
    settings = make_agent_settings(2, lora=KINDS[kind])
    train_agent(base, samples, settings, seed=1, torch_threads=1, folder=tmp_path / "agent", data={})
    manifest = read_checkpoints(tmp_path / "agent")
    agent = open_agent(base, manifest, torch_threads=1)
    use_checkpoint(agent, 1)
    expected = torch.stack(naive_gradients(base, manifest.folder / "period_01", samples))
    found = flat(sample_gradients(agent, batch_of(samples, everything(samples))))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_layers_that_read_one_tensor_are_found(plain: Setting) -> None:
    names = [[plain.agent.names[index].rsplit(".", 1)[1] for index in group] for group in plain.agent.groups]
    assert names == [["q_proj", "k_proj", "v_proj"], ["down_proj"]] * 2


@pytest.mark.parametrize(("block_bytes", "held_bytes"), [(1, 2**20), (4096, 0), (2**28, 2**12), (2**28, 2**26)])
def test_products_with_many_vectors_do_not_depend_on_blocks_and_batches(
    plain: Setting, monkeypatch: pytest.MonkeyPatch, block_bytes: int, held_bytes: int
) -> None:
    monkeypatch.setattr("benchmarks.scorers.stacked.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("benchmarks.scorers.stacked.HELD_BYTES", held_bytes)
    use_checkpoint(plain.agent, 1)
    vectors = sample_gradients(plain.agent, batch_of(plain.targets, everything(plain.targets)))
    batches = [batch_of(plain.samples, part) for part in np.array_split(everything(plain.samples), 3)]
    ours, theirs = torch.stack(plain.sample_gradients[1]), torch.stack(plain.target_gradients[1])
    dot = ours @ theirs.T
    ways: dict[Literal["dot", "cosine"], torch.Tensor] = {"dot": dot, "cosine": dot / ours.norm(dim=1)[:, None]}
    for normalise, expected in ways.items():
        found = score_against(plain.agent, batches, vectors, normalise=normalise).double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_one_vector_contracted_equals_its_products_with_gradients_that_are_built(plain: Setting) -> None:
    use_checkpoint(plain.agent, 2)
    batch = batch_of(plain.samples, everything(plain.samples))
    stacked = sample_gradients(plain.agent, batch_of(plain.targets, np.array([3])))
    contraction = Contraction(len(batch), tuple((a[0], b[0]) for a, b in stacked))
    matched = Matched(len(batch), stacked, device=plain.agent.model.device)
    for sink in (contraction, matched):
        pass_through(plain.agent, batch, sink)
    expected = matched.scaled[:, 0]
    torch.testing.assert_close(contraction.products, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_no_weight_requires_a_gradient_and_none_is_left_after_a_pass(plain: Setting) -> None:
    batch = batch_of(plain.samples, everything(plain.samples))
    sample_gradients(plain.agent, batch)
    assert not [name for name, weight in plain.agent.model.named_parameters() if weight.requires_grad]
    assert all(weight.grad is None for weight in plain.agent.model.parameters())
    assert not any("forward" in vars(pair.layer) for pair in plain.agent.pairs)


def reopened(setting: Setting, **changes: object) -> OpenAgent:
    return open_agent(setting.base, setting.manifest, torch_threads=1, **changes)  # type: ignore[arg-type]


def scores(agent: OpenAgent, setting: Setting, settings: Influence) -> np.ndarray:
    targets = target_gradients(agent, setting.targets, settings, business_timezone="UTC")
    return np.array(score_samples(agent, targets, setting.samples, settings)["score"].to_pylist())


@pytest.mark.parametrize("normalise", ["dot", "cosine"])
def test_gradient_checkpointing_changes_no_score(plain: Setting, normalise: str) -> None:
    settings = Influence.model_validate({"normalise": normalise})
    agent = reopened(plain, gradient_checkpointing=True)
    calls: list[int] = []
    agent.model.base_model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    sample_gradients(agent, batch_of(plain.samples, np.array([0, 1])))
    assert len(calls) == 2  # once forward, and again in the backward pass
    np.testing.assert_allclose(scores(agent, plain, settings), scores(plain.agent, plain, settings), rtol=1e-5)


def test_bf16_ranks_nearly_as_fp32(plain: Setting) -> None:
    """A tiny model is the worst case: its gradients average over few numbers."""
    settings = Influence(precision="bf16")
    agent = reopened(plain, precision="bf16")
    assert {weight.dtype for weight in agent.model.parameters()} == {torch.bfloat16}
    targets = target_gradients(agent, plain.targets, settings, business_timezone="UTC")
    assert all(part.dtype == torch.float32 for sums in targets.sums for pair in sums for part in pair)
    pool = make_samples(120, seed=3, dates=TRAIN)
    half = np.array(score_samples(agent, targets, pool, settings)["score"].to_pylist())
    exact_targets = target_gradients(plain.agent, plain.targets, Influence(), business_timezone="UTC")
    exact = np.array(score_samples(plain.agent, exact_targets, pool, Influence())["score"].to_pylist())
    top = len(pool) // 3
    overlap = len({*np.argsort(-half)[:top]} & {*np.argsort(-exact)[:top]}) / top
    assert overlap >= 0.9
    assert np.corrcoef(half, exact)[0, 1] > 0.99


REFUSED = {
    "use_dora": LoraConfig(use_dora=True, target_modules=["q_proj"]),
    "bias: lora_only": LoraConfig(bias="lora_only", target_modules=["q_proj"]),
    "lora_bias": LoraConfig(lora_bias=True, target_modules=["q_proj"]),
    "modules_to_save": LoraConfig(modules_to_save=["lm_head"], target_modules=["q_proj"]),
    "trainable_token_indices": LoraConfig(trainable_token_indices=[3], target_modules=["q_proj"]),
    "Embedding": LoraConfig(target_modules=["embed_tokens"]),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_an_unsupported_adapter_is_rejected_by_name(plain: Setting, name: str) -> None:
    adapted = get_peft_model(load_model(plain.base), REFUSED[name])
    with pytest.raises(ConfigError, match=name):
        lora_pairs(adapted)


def test_a_lora_on_the_output_head_is_rejected_by_name(plain: Setting) -> None:
    adapted = get_peft_model(load_model(plain.base), LoraConfig(target_modules=["q_proj", "lm_head"]))
    with pytest.raises(ConfigError, match="lm_head is called 0 times"):
        shared_inputs(adapted.get_base_model(), lora_pairs(adapted))


def test_checkpoints_of_different_adapters_are_rejected(plain: Setting, tmp_path: Path) -> None:
    samples = make_samples(8, dates=TRAIN[:2])
    for number, alpha in enumerate((6, 7)):
        settings = make_agent_settings(2, lora=LORA.model_copy(update={"alpha": alpha}))
        train_agent(plain.base, samples, settings, seed=1, torch_threads=1, folder=tmp_path / str(number), data={})
    (tmp_path / "1" / "period_01" / "adapter_config.json").replace(tmp_path / "0" / "period_01" / "adapter_config.json")
    with pytest.raises(DataError, match="period_01 differs from period_00 in lora_alpha"):
        open_agent(plain.base, read_checkpoints(tmp_path / "0"), torch_threads=1)
