"""The base model: a tiny Mistral trained on the lender's own event lines, or a folder on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from zigong.errors import ConfigError
from zigong.files.atomic import promoted_folder, write_json
from zigong.files.digests import files_digest
from zigong.recipe import TinyBase
from zigong.tokens.samples import TokenIds, labelled_batch, token_budget_batches
from zigong.training.answer_rows import separate_answer_rows
from zigong.training.devices import device_here
from zigong.training.optimise import Progress
from zigong.training.pretrained import open_config, weight_files
from zigong.training.pretraining import pieces_of, pretrain
from zigong.training.tokenizer import tokenizer_digest

MANIFEST = "manifest.json"
MAX_ANSWER_STATES = 512  # number of timelines whose state before the answer is averaged
STATE_BATCH_TOKENS = 8192


@dataclass(frozen=True, kw_only=True)
class BaseManifest:
    """Description of a base model and of its training cost.

    Attributes:
        digest: SHA-256 over weights, model config and tokenizer file.
        tokenizer_digest: SHA-256 of the tokenizer file.
        parameters: number of trainable parameters.
        tokens: number of predicted tokens of pre-training over all epochs.
        steps: optimiser steps.
        seconds: wall time of pre-training.
        final_loss: mean loss in nats per token over the last twentieth of the steps.
        seed: seed of weights and order.
        config: the recipe's section.
    """

    digest: str
    tokenizer_digest: str
    parameters: int
    tokens: int
    steps: int
    seconds: float
    final_loss: float
    seed: int
    config: dict[str, Any]

    def figures(self) -> dict[str, float]:
        """Size, cost and final loss as figures of metrics.json."""
        return {
            "base.parameters": self.parameters,
            "base.tokens": self.tokens,
            "base.final_loss": self.final_loss,
            "base.tokens_per_second": self.tokens / self.seconds,
        }


def base_digest(folder: Path) -> str:
    """SHA-256 over weights, model config and tokenizer of a model folder.

    Raises:
        ConfigError: there are no safetensors weights, or there are pickled ones.
    """
    weights = {file.name: file for file in weight_files(folder)}
    return files_digest({**weights, **{name: folder / name for name in ("config.json", "tokenizer.json")}})


def train_base(
    timelines: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerFast,
    tiny: TinyBase,
    *,
    answers: Sequence[Sequence[int]] = (),
    seed: int,
    torch_threads: int,
    folder: Path,
    progress: Progress | None = None,
) -> BaseManifest:
    """Trains a tiny Mistral by next-token prediction on complete timelines and saves it with its tokenizer.

    The timelines carry no label, so pre-training makes the output rows of a question's answers nearly equal; they are
    separated afterwards, since otherwise no adapter could distinguish the answers (``answer_rows``).

    Args:
        timelines: token ids of each user's events; long ones are divided into pieces of ``tiny.context_length``.
        tokenizer: saved in the folder with the weights.
        tiny: size and training of the model.
        answers: token ids of the choices of each question, one token per choice.
        seed: seed of weights and order. Equal seeds and thread counts give equal weights.
        torch_threads: threads of one operation.
        folder: folder of the model; written atomically.
        progress: called with step, steps and loss.

    Raises:
        DataError: no timeline has two tokens.
    """
    pieces = pieces_of(timelines, tiny.context_length)
    started = time.monotonic()
    disable_progress_bar()
    torch.set_num_threads(torch_threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MistralForCausalLM(tiny_config(tiny, tokenizer)).to(device_here())
    losses = pretrain(model, pieces, tiny, seed=seed, progress=progress)
    separate_answer_rows(model, answers, _state_before_answers(model, pieces, answers), seed=seed)
    with promoted_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        return write_manifest(partial, model, losses, started=started, seed=seed, config=tiny.model_dump(mode="json"))


def write_manifest(
    folder: Path,
    model: PreTrainedModel,
    losses: Sequence[tuple[int, float]],
    *,
    started: float,
    seed: int,
    config: dict[str, Any],
) -> BaseManifest:
    """Describes a base whose files are in a folder, and writes the description beside them.

    Args:
        folder: weights, configuration and tokenizer.
        model: the trained model.
        losses: predicted tokens and loss of each step.
        started: ``time.monotonic()`` when the training began.
        seed: of the training.
        config: the recipe's section.
    """
    manifest = BaseManifest(
        digest=base_digest(folder),
        tokenizer_digest=tokenizer_digest(folder),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tokens=sum(tokens for tokens, _ in losses),
        steps=len(losses),
        seconds=round(time.monotonic() - started, 3),
        final_loss=float(np.mean([loss for _, loss in losses[-max(1, len(losses) // 20) :]])),
        seed=seed,
        config=config,
    )
    write_json(folder / MANIFEST, asdict(manifest))
    return manifest


def tiny_config(tiny: TinyBase, tokenizer: PreTrainedTokenizerFast) -> MistralConfig:
    """The configuration of the tiny Mistral: full attention, one key head per query head.

    Raises:
        ConfigError: the heads do not divide the hidden size.
    """
    if tiny.hidden_size % tiny.heads:
        raise ConfigError(
            f"base.tiny: hidden_size {tiny.hidden_size} is not a multiple of heads {tiny.heads}",
            action="choose heads that divide hidden_size",
        )
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=tiny.hidden_size,
        intermediate_size=tiny.ffn_size,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.heads,
        max_position_embeddings=tiny.context_length,
        sliding_window=None,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )


@torch.inference_mode()
def _state_before_answers(
    model: MistralForCausalLM, pieces: list[TokenIds], answers: Sequence[Sequence[int]]
) -> Tensor:
    """Mean last hidden state [H] at the positions that predict an answer, or at the last positions if none has one."""
    choices = [token for group in answers for token in group]
    answered = [piece for piece in pieces if piece[-1] in choices] or pieces
    lengths = np.array([len(piece) - 1 for piece in answered[:MAX_ANSWER_STATES]])
    total = torch.zeros(model.config.hidden_size, device=model.device)
    for batch in token_budget_batches(lengths, STATE_BATCH_TOKENS):
        inputs = labelled_batch([answered[i][:-1] for i in batch], [answered[i][-1:] for i in batch]).to(model.device)
        hidden = model.base_model(inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state
        total += hidden[inputs.label_rows, inputs.label_positions].sum(0)
    return total / len(lengths)


def load_model(folder: Path, **options: Any) -> PreTrainedModel:
    """Loads a base model in fp32 for evaluation; only safetensors, never remote code.

    Args:
        folder: of the base model.
        options: further arguments of ``from_pretrained``, see ``loading.frozen_options``.

    Raises:
        ConfigError: the folder has no safetensors weights, or has pickled ones, or its family is not supported.
    """
    weight_files(folder)
    disable_progress_bar()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        config=open_config(folder),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        dtype=torch.float32,
        **{"attn_implementation": "sdpa", **options},
    )
    model.generation_config = GenerationConfig()  # a folder's may hold a temperature or a repetition penalty
    return model.eval()
