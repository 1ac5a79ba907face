"""Training of all weight matrices, saved as an adapter of full rank: the base model stays one file for all its models.

Source: none; it follows from LoRA's definition. ``W + B A`` is any matrix as soon as A or B is an identity.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from zigong.errors import ConfigError
from zigong.training.base import load_model

Matrix = nn.Linear | nn.Embedding


def trainable_base(base_folder: Path) -> PreTrainedModel:
    """The base model with all its weight matrices trainable, embeddings and output layer among them.

    Norms and biases are not trained: an adapter cannot hold them.

    Raises:
        ConfigError: input embeddings and output layer are one matrix, which no adapter changes in both places.
    """
    model = load_model(base_folder)
    if model.get_input_embeddings().weight is model.get_output_embeddings().weight:
        raise ConfigError(
            f"{base_folder} has one matrix for input and output words, and finetune.lora is null",
            action="train an adapter: give finetune.lora its r and targets",
        )
    model.requires_grad_(False)
    for layer in _matrices(model).values():
        layer.weight.requires_grad_(True)
    return model


@torch.no_grad()
def full_rank_adapter(base_folder: Path, trained: PreTrainedModel) -> PeftModel:
    """An adapter with which the base model is ``trained``; one of the two factors of each layer is an identity.

    Args:
        base_folder: folder of the base model.
        trained: of :func:`trainable_base`, after its training.
    """
    layers = _matrices(trained)
    ranks = {name: min(layer.weight.shape) for name, layer in layers.items()}
    config = LoraConfig(
        r=max(ranks.values()),
        lora_alpha=max(ranks.values()),
        target_modules=list(layers),
        rank_pattern=ranks,
        alpha_pattern=ranks,
        bias="none",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(load_model(base_folder), config)
    adapted.peft_config["default"].base_model_name_or_path = None  # a saved adapter contains no local path
    modules = dict(adapted.get_base_model().named_modules())
    for name, layer in layers.items():
        change = layer.weight.cpu() - modules[name].base_layer.weight
        if isinstance(layer, nn.Embedding):
            first, second = modules[name].lora_embedding_A["default"], modules[name].lora_embedding_B["default"]
            change = change.T  # PEFT keeps the factors of an embedding as [r, words] and [width, r]
        else:
            first, second = modules[name].lora_A["default"].weight, modules[name].lora_B["default"].weight
        _factor(change, first, second)
    return adapted


def _factor(change: Tensor, first: Tensor, second: Tensor) -> None:
    """Sets ``second @ first`` to ``change``, a matrix [out, in]."""
    rows, columns = change.shape
    wide = rows <= columns
    second.copy_(torch.eye(rows) if wide else change)
    first.copy_(change if wide else torch.eye(columns))


def _matrices(model: PreTrainedModel) -> dict[str, Matrix]:
    return {name: item for name, item in model.named_modules() if isinstance(item, nn.Linear | nn.Embedding)}
