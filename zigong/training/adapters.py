"""LoRA adapters: initialised from a seed, saved as safetensors, loaded after their digest is verified."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, zeros_like
from transformers import PreTrainedModel

from zigong.errors import ConfigError, DataError
from zigong.files.atomic import write_json
from zigong.files.digests import files_digest
from zigong.recipe import Lora
from zigong.training.base import load_model
from zigong.training.folders import refuse_pickles

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class AdapterManifest:
    """Description of an adapter and of its training cost.

    Attributes:
        adapter_digest: SHA-256 over weights and config.
        base_digest: digest of its base model.
        samples: number of distinct samples, each trained ``epochs`` times.
        steps: number of optimiser steps.
        tokens: number of tokens of prompts and completions over all epochs.
        seconds: wall time.
        final_loss: mean loss over the last twentieth of the steps.
        seed: seed of the adapter and of the order.
        settings: the recipe's section.
    """

    adapter_digest: str
    base_digest: str
    samples: int
    steps: int
    tokens: int
    seconds: float
    final_loss: float
    seed: int
    settings: dict[str, Any]

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained in a second, those of every epoch counted."""
        return self.tokens / self.seconds


def model_name(digest: str) -> str:
    """The model_id of an adapter, or of a card made of an adapter and other parts.

    Args:
        digest: SHA-256 of the adapter or of all parts, as hex digits.
    """
    return f"zigong-{digest[:16]}"


def new_adapter(base_folder: Path, lora: Lora, *, seed: int, **options: Any) -> PeftModel:
    """The frozen base model with a fresh adapter; see :func:`with_adapter`.

    Args:
        base_folder: folder of the base model.
        lora: form of the adapter.
        seed: seed of its first weights.
        options: how the base is held, see ``loading.frozen_options``.

    Raises:
        ConfigError: a target is not a linear layer of the base model.
    """
    model = load_model(base_folder, **options)
    absent = [target for target in lora.targets if not any(name.endswith(target) for name, _ in model.named_modules())]
    if absent:
        raise ConfigError(f"lora.targets {absent} are not layers of {base_folder}", action="name its linear layers")
    return with_adapter(model, lora, seed=seed)


def with_adapter(model: PreTrainedModel, lora: Lora, *, seed: int) -> PeftModel:
    """A model, frozen, with a fresh adapter: A drawn from ``seed``, B zero."""
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        use_rslora=lora.rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = None  # a saved adapter contains no local path
    return adapted


def save_adapter(adapted: PeftModel, folder: Path) -> str:
    """Writes the weights and the config that PEFT reads, and returns their digest."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(adapter_weights(adapted), folder / WEIGHTS, metadata={"format": "pt"})
    config = {**adapted.peft_config["default"].to_dict(), "inference_mode": True}
    # PEFT keeps the targets as a set, whose order differs between processes
    write_json(
        folder / CONFIG, {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    )
    return adapter_digest(folder)


def save_neutral_adapter(source: Path, folder: Path) -> None:
    """Writes a copy of an adapter whose weights are zero, with which a model answers as its base does.

    Raises:
        ConfigError: a file of the adapter is missing or pickled.
    """
    weights = read_adapter(source, digest=None)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: zeros_like(item) for name, item in weights.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(source / CONFIG, folder / CONFIG)


def adapter_weights(adapted: PeftModel) -> dict[str, Tensor]:
    """A copy of the adapter's weights under PEFT's names."""
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def trained_weights(adapted: PeftModel) -> dict[str, nn.Parameter]:
    """The adapter's parameters (not copies), under the names of :func:`adapter_weights`."""
    named = {name: item for name, item in adapted.named_parameters() if item.requires_grad}
    return {name.replace(".default.", "."): item for name, item in named.items()}


def adapter_digest(folder: Path) -> str:
    """SHA-256 over weights and config of an adapter folder.

    Raises:
        ConfigError: weights or config are missing, or the folder has pickled weights.
    """
    refuse_pickles(folder)
    files = {name: folder / name for name in (WEIGHTS, CONFIG)}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        raise ConfigError(f"{folder} lacks {', '.join(missing)}", action="train the adapter again")
    return files_digest(files)


def read_adapter(folder: Path, *, digest: str | None) -> dict[str, Tensor]:
    """The weights of an adapter folder.

    Args:
        folder: as written by :func:`save_adapter`.
        digest: digest in the manifest; None if there is no manifest.

    Raises:
        ConfigError: a file is missing or pickled.
        DataError: the digest differs from the manifest's.
    """
    found = adapter_digest(folder)
    if digest is not None and found != digest:
        raise DataError(
            f"{folder}: digest {found[:12]} differs from the manifest's {digest[:12]}",
            action="train the adapter again; its files were changed or mixed up",
        )
    weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
    return weights


def load_merged(base_folder: Path, adapter_folder: Path, *, digest: str | None = None) -> PreTrainedModel:
    """The model that base and adapter make, for inference: the adapter is added to the weights.

    Raises:
        ConfigError, DataError: as in :func:`load_adapted`.
    """
    merged: PreTrainedModel = load_adapted(base_folder, adapter_folder, digest=digest).merge_and_unload()
    return merged


def load_adapted(base_folder: Path, adapter_folder: Path, *, digest: str | None = None) -> PeftModel:
    """The base model with a saved adapter, frozen, without dropout.

    Raises:
        ConfigError: a file is missing or pickled, or the adapter does not fit the base model.
        DataError: the adapter's digest differs from ``digest``.
    """
    weights = read_adapter(adapter_folder, digest=digest)
    config = LoraConfig.from_pretrained(adapter_folder)
    config.inference_mode = True
    adapted = get_peft_model(load_model(base_folder), config)
    set_weights(adapted, weights)
    return adapted.eval()


def set_weights(adapted: PeftModel, weights: dict[str, Tensor]) -> None:
    """Loads saved weights into the adapter of a model.

    Raises:
        ConfigError: names or shapes differ: the adapter belongs to another base model.
    """
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    present = {name: tensor.shape for name, tensor in state.items()}
    saved = {name: tensor.shape for name, tensor in weights.items()}
    if present != saved:
        wrong = sorted(set(present.items()) ^ set(saved.items()))[:2]
        raise ConfigError(
            f"adapter and base model do not fit, first difference {wrong}", action="check base and adapter"
        )
    set_peft_model_state_dict(adapted, weights)
