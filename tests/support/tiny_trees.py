"""Tiny decoders with a random adapter, and users whose samples share and do not share, for the tests of token trees."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from zigong.influence.factorised import Matrices
from zigong.tokens.losses import sample_losses
from zigong.tokens.samples import Samples, batch_of

Pairs = list[tuple[nn.Linear, nn.Linear]]
Ids = Sequence[int] | NDArray[np.signedinteger]
WORDS = 40
DECODERS = {
    "mistral": (MistralConfig, MistralForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": None,
}
QKV = ("q_proj", "k_proj", "v_proj")


def make_decoder(
    kind: str = "mistral",
    *,
    targets: Sequence[str] = QKV,
    dtype: torch.dtype = torch.float64,
    dora: bool = False,
    **changes: Any,
) -> tuple[PreTrainedModel, Pairs]:
    """A frozen decoder with random norms and one adapter whose B is random, and its LoRA pairs."""
    torch.set_num_threads(1)
    make_config, make_model = DECODERS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = make_config(**{**SIZES, **changes})
        settings = LoraConfig(r=3, lora_alpha=5, target_modules=list(targets), use_dora=dora)
        adapted = get_peft_model(make_model(config), settings)
        for name, parameter in adapted.named_parameters():
            if "norm" in name or "lora_B" in name or name.endswith("bias"):
                parameter.data += 0.2 * torch.randn_like(parameter)
    adapted = adapted.to(dtype).eval().requires_grad_(False)
    layers = [layer for layer in adapted.modules() if isinstance(layer, LoraLayer)]
    return adapted.get_base_model(), [(layer.lora_A["default"], layer.lora_B["default"]) for layer in layers]


def make_vector(pairs: Pairs, seed: int) -> Matrices:
    """A random test vector."""
    generator = torch.Generator().manual_seed(seed)

    def like(layer: nn.Linear) -> Tensor:
        return torch.randn(layer.weight.shape, generator=generator, dtype=layer.weight.dtype)

    return tuple((like(a), like(b)) for a, b in pairs)


def samples_of(user: str, prompts: Sequence[Ids], answers: Sequence[Ids]) -> Samples:
    """The samples of one user."""
    size = len(prompts)
    return Samples(
        sample_id=tuple(f"{user}.{index}" for index in range(size)),
        user_id=(user,) * size,
        observation_date=(date(2023, 1, 1),) * size,
        matured_at=(datetime(2023, 5, 1, tzinfo=UTC),) * size,
        label=np.zeros(size, dtype=np.int64),
        input_ids=tuple(np.asarray(ids, dtype=np.int32) for ids in prompts),
        completion_ids=tuple(np.asarray(ids, dtype=np.int32) for ids in answers),
    )


def monthly_user(user: str, *, seed: int, months: int, points: int, line: int = 4, question: int = 3) -> Samples:
    """A history that grows by one line per month, and a question with an answer in each of the last months."""
    generator = np.random.default_rng(seed)
    history = generator.integers(0, WORDS, months * line)
    ends = [line * (months - points + 1 + point) for point in range(points)]
    return samples_of(
        user,
        [[*history[:end], *generator.integers(0, WORDS, question)] for end in ends],
        [generator.integers(0, WORDS, 1 + point % 2) for point in range(points)],
    )


def ragged_user(user: str, *, seed: int) -> Samples:
    """Samples that end inside others, fork within a branch, share nothing, are equal, or bear loss at position 0."""
    generator = np.random.default_rng(seed)
    stem = list(generator.integers(0, WORDS, 14))
    prompts = [stem[:1], stem, [*stem[:6], 1, 2], [*stem[:6], 1, 3, 3], [*stem[:6], 2], stem[:9], [5, 5, 5], stem]
    answers = [[7, 8, 9], [1], [2, 3], [4], [5], [int(stem[9])], [6], [1]]
    return samples_of(user, prompts, answers)


def one_by_one(model: PreTrainedModel, pairs: Pairs, samples: Samples) -> tuple[Tensor, list[list[Tensor]]]:
    """Loss of each sample [N], and its gradient with respect to every LoRA weight, by autograd with a batch of one."""
    weights = [part.weight for pair in pairs for part in pair]
    losses, gradients = [], []
    for weight in weights:
        weight.requires_grad_(True)
    for index in range(len(samples)):
        loss = sample_losses(model, batch_of(samples, np.array([index]))).sum()
        gradients.append(list(torch.autograd.grad(loss, weights)))
        losses.append(loss.detach())
    for weight in weights:
        weight.requires_grad_(False)
    return torch.stack(losses), gradients


def products(gradients: list[list[Tensor]], vector: Matrices) -> Tensor:
    """<gradient, vector> of each sample: [N]."""
    flat = [part for pair in vector for part in pair]
    return torch.stack(
        [torch.stack([(a * b).sum() for a, b in zip(one, flat, strict=True)]).sum() for one in gradients]
    )
