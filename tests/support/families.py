"""Tiny models of every supported family, with random weights and a tokenizer of the family's kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from tests.support.tiny_trees import Ids

LINES = [
    f"+{gap}d instalment paid {amount} EUR, {late} days late"
    for gap in (28, 31)
    for amount in (50, 175)
    for late in (0, 9, 34)
]
QUESTION = "Will the client be 30 or more days late within six months?"
ONE_TOKEN, SEVERAL_TOKENS = ("bad", "good"), ("paid late or not at all", "paid on time", "paid early")
TEXTS = [*LINES, QUESTION, *(f"Answer: {word}" for word in ONE_TOKEN for _ in range(9))]
END, SECOND_END, BEGIN = "<end>", "<end_of_turn>", "<begin>"
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = 360
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture: its configuration, and whether its tokenizer is of SentencePiece's kind."""

    config: type[PretrainedConfig]
    changes: dict[str, Any]
    sentencepiece: bool = False


FAMILIES = {
    "mistral_v0_1": Family(
        config=MistralConfig, changes={"num_key_value_heads": 2, "sliding_window": 11}, sentencepiece=True
    ),
    "mistral_v0_3": Family(
        config=MistralConfig, changes={"num_key_value_heads": 2, "sliding_window": None}, sentencepiece=True
    ),
    "llama_2": Family(config=LlamaConfig, changes={}, sentencepiece=True),
    "llama_3": Family(
        config=LlamaConfig, changes={"num_key_value_heads": 2, "rope_parameters": LLAMA3, "eos_token_id": [0, 1]}
    ),
    "smollm2": Family(config=LlamaConfig, changes={"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2": Family(config=Qwen2Config, changes={"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2_windowed": Family(
        config=Qwen2Config,
        changes={"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 11, "max_window_layers": 1},
    ),
    "qwen3": Family(config=Qwen3Config, changes={"num_key_value_heads": 2, "head_dim": 12, "eos_token_id": [0, 1]}),
}


def make_family(name: str, folder: Path, **changes: Any) -> Path:
    """Writes a model folder as the hub has them: config.json, model.safetensors and tokenizer.json."""
    family = FAMILIES[name]
    tokenizer = byte_level_tokenizer() if not family.sentencepiece else sentencepiece_tokenizer()
    given = {**SIZES, "vocab_size": WORDS, "max_position_embeddings": 256, "eos_token_id": 0, "bos_token_id": 2}
    config = family.config(**{**given, **family.changes, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # biases and norms too, so that what leaves them out is seen
            parameter.data += 0.15 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def byte_level_tokenizer(words: int = WORDS) -> Tokenizer:
    """A byte-level BPE, as of Llama 3, Qwen and SmolLM2; without a token at the beginning."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[END, SECOND_END, BEGIN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def sentencepiece_tokenizer() -> Tokenizer:
    """A BPE as converted from SentencePiece, as of Llama 2 and Mistral: it begins prompts, and spaces each text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=BEGIN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=[END, SECOND_END, BEGIN, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return tokenizer


def theirs(folder: Path) -> PreTrainedModel:
    """The model as Hugging Face loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def their_loss(model: PreTrainedModel, prompt: Ids, answer: Ids) -> Tensor:
    """Mean loss of an answer, by the model's own forward pass on one sample."""
    labels = torch.tensor([*np.full(len(prompt), -100), *answer])
    loss: Tensor = model(input_ids=torch.tensor([*prompt, *answer])[None].long(), labels=labels[None].long()).loss
    return loss


def their_likelihood(model: PreTrainedModel, prompt: Ids, answer: Sequence[int]) -> float:
    """Summed log-likelihood of an answer, by the model's own forward pass on one sample."""
    logits = model(input_ids=torch.tensor([*prompt, *answer])[None].long()).logits[0, len(prompt) - 1 : -1]
    return -float(cross_entropy(logits.double(), torch.tensor(answer), reduction="sum").detach())
