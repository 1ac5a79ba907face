"""Finds the LoRA layers of a model that can be scored, and which of them read the same tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from zigong.errors import ConfigError

ADAPTER = "default"
ACTION = "train a plain LoRA on linear layers, or score with a library that supports this type"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoraPair:
    """One linear layer with its LoRA: y = x W^T + bias + scale * (x A^T) B^T.

    Attributes:
        name: name of the layer in PEFT's model.
        layer: PEFT's module.
        base: the frozen linear layer W [O, D].
        a: A [r, D].
        b: B [O, r].
        scale: alpha / r, or alpha / sqrt(r) with rank-stabilised LoRA.
    """

    name: str
    layer: LoraLayer
    base: nn.Linear
    a: nn.Linear
    b: nn.Linear
    scale: float


def lora_pairs(adapted: PeftModel) -> tuple[LoraPair, ...]:
    """All LoRA layers of a model, in module order.

    Raises:
        ConfigError: the adapter trains something other than A and B of linear layers; the message names it.
    """
    refuse_unknown_kinds(adapted.peft_config[ADAPTER])
    layers = {name: layer for name, layer in adapted.named_modules() if isinstance(layer, LoraLayer)}
    for name, layer in layers.items():
        base = layer.get_base_layer()
        if not isinstance(layer, Linear) or type(base) is not nn.Linear:
            raise ConfigError(f"{name} is a LoRA on {type(base).__name__}, expected a plain Linear", action=ACTION)
        if ADAPTER in layer.lora_variant or layer.lora_bias.get(ADAPTER):
            raise ConfigError(f"{name} has a LoRA variant or bias, expected plain A and B", action=ACTION)
    return tuple(
        LoraPair(
            name=name,
            layer=layer,
            base=layer.get_base_layer(),
            a=layer.lora_A[ADAPTER],
            b=layer.lora_B[ADAPTER],
            scale=float(layer.scaling[ADAPTER]),
        )
        for name, layer in layers.items()
    )


def refuse_unknown_kinds(config: LoraConfig) -> None:
    """Rejects adapters that train anything other than A and B.

    Raises:
        ConfigError: the adapter has such a setting; the message names it.
    """
    kinds: Mapping[str, bool] = {
        "use_dora": bool(config.use_dora),
        f"bias: {config.bias}": config.bias != "none",
        "lora_bias": bool(config.lora_bias),
        "modules_to_save": bool(config.modules_to_save),
        "trainable_token_indices": bool(config.trainable_token_indices),
        "target_parameters": bool(getattr(config, "target_parameters", None)),
    }
    found = [name for name, present in kinds.items() if present]
    if found:
        raise ConfigError(f"the adapter has {', '.join(found)}, expected only A and B to be trained", action=ACTION)


def shared_inputs(model: PreTrainedModel, pairs: tuple[LoraPair, ...]) -> tuple[tuple[int, ...], ...]:
    """Groups of consecutive pairs that read the same tensor, such as q, k and v, found with one pass over two tokens.

    Raises:
        ConfigError: a pair is not called once per pass on [N, S, D]: an output head, or an expert of a mixture.
    """
    calls: list[tuple[int, Tensor]] = []
    handles = [
        pair.layer.register_forward_pre_hook(lambda _, inputs, index=index: calls.append((index, inputs[0])))
        for index, pair in enumerate(pairs)
    ]
    with torch.no_grad():
        model.base_model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=model.device), use_cache=False)
    for handle in handles:
        handle.remove()
    for index, pair in enumerate(pairs):
        shapes = [tuple(x.shape) for called, x in calls if called == index]
        if len(shapes) != 1 or len(shapes[0]) != 3:
            raise ConfigError(
                f"{pair.name} is called {len(shapes)} times per pass on {shapes}, expected once on [N, tokens, width]",
                action="take output heads and experts out of lora.targets",
            )
    groups: list[list[int]] = []
    previous: Tensor | None = None
    for index, x in calls:
        if x is previous:
            groups[-1].append(index)
        else:
            groups.append([index])
        previous = x
    return tuple(tuple(group) for group in groups)
