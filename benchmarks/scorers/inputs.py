"""The input of the influence benchmarks, generated from seeds: model, adapter, sets of samples, test vectors.

Imports nothing of ours, so that the environment of the peers reads the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

VOCABULARY, RANK, TARGETS = 8192, 8, ("q_proj", "k_proj", "v_proj")
LAYERS, HIDDEN, FEED, HEADS = 6, 256, 896, 4  # 896 = 3.5 x 256, as in Mistral 7B
LINE, QUESTION = 12, 15  # tokens of a month, and of a question without its answer
SAMPLES, FIXED_LENGTH, LENGTHS = 48, 128, (24, 320)
USERS = {6: 4, 12: 2, 24: 1}  # users of a set by their monthly points; a history is twice as long

Vectors = list[tuple[Tensor, Tensor]]  # per LoRA pair A [M, r, D], B [M, O, r]


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Samples of one set.

    Attributes:
        prompts: token ids.
        answers: token ids with loss.
        users: owner of each sample.
    """

    prompts: list[list[int]]
    answers: list[list[int]]
    users: list[str]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [len(prompt) + len(answer) for prompt, answer in zip(self.prompts, self.answers, strict=True)]


def write_model(folder: Path) -> None:
    """Writes base/ and adapter/, unless they exist."""
    if (folder / "adapter").is_dir():
        return
    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=FEED,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2048,
        sliding_window=None,
        initializer_range=0.04,
    )
    model = MistralForCausalLM(config)
    model.save_pretrained(folder / "base")
    adapted = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS)))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zero in a fresh adapter, which makes every gradient of A zero
            parameter.data = 0.05 * torch.randn_like(parameter)
    adapted.save_pretrained(folder / "adapter")


def load_model(folder: Path) -> PeftModel:
    """The adapted model with trainable LoRA weights, without dropout."""
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32, attn_implementation="sdpa")
    return PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).eval()


def lora_layers(model: PeftModel) -> dict[str, LoraLayer]:
    """The LoRA layers by name, in the order of the vectors."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def sample_set(name: str) -> SampleSet:
    """The set of a name: fixed, ragged, or POINTS for users with that many monthly points."""
    if name in ("fixed", "ragged"):
        return _single_samples(ragged=name == "ragged")
    return _timelines(int(name), USERS[int(name)])


def _single_samples(*, ragged: bool) -> SampleSet:
    """Samples that share nothing; ragged lengths are log-uniform, with answers of one to three tokens."""
    generator = np.random.default_rng(2)
    low, high = np.log(LENGTHS)
    lengths = np.exp(generator.uniform(low, high, SAMPLES)).astype(int) if ragged else [FIXED_LENGTH] * SAMPLES
    answers = [_words(generator, 1 + index % 3 if ragged else 1) for index in range(SAMPLES)]
    prompts = [_words(generator, int(size) - len(ids)) for size, ids in zip(lengths, answers, strict=True)]
    return SampleSet(prompts=prompts, answers=answers, users=[f"u{index}" for index in range(SAMPLES)])


def _timelines(points: int, users: int) -> SampleSet:
    """Users with 2 x points months, with a question at the end of each of the last ``points``."""
    prompts, answers, owners = [], [], []
    for user in range(users):
        generator = np.random.default_rng(100 * points + user)
        history = _words(generator, 2 * points * LINE)
        for month in range(points + 1, 2 * points + 1):
            prompts.append(history[: month * LINE] + _words(generator, QUESTION))
            answers.append(_words(generator, 1))
            owners.append(f"u{user}")
    return SampleSet(prompts=prompts, answers=answers, users=owners)


def _words(generator: np.random.Generator, size: int) -> list[int]:
    words: list[int] = generator.integers(3, VOCABULARY, size).tolist()
    return words


def test_vectors(count: int) -> Vectors:
    """``count`` random test gradients."""
    generator = torch.Generator().manual_seed(count)
    return [
        (torch.randn(count, RANK, HIDDEN, generator=generator), torch.randn(count, HIDDEN, RANK, generator=generator))
        for _ in range(LAYERS * len(TARGETS))
    ]
