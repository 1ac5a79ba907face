"""Prepares the weights of a Llama-like decoder for the explicit forward-mode pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from zigong.errors import ConfigError
from zigong.influence.dual import DualLinear
from zigong.influence.factorised import Matrices
from zigong.tokens.windows import layer_windows
from zigong.training.pretrained import ROTARY_TYPES

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
PROJECTIONS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lora:
    """A LoRA pair of one projection, with its index in ``Matrices``."""

    place: int
    a: nn.Linear
    b: nn.Linear
    scale: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Projection:
    """One projection: its frozen weight as the pass uses it, and its LoRA pair.

    Attributes:
        weight: [O, D]; columns times the weight of the preceding norm, rows times ``factor`` and reordered by ``rows``.
        norm: [D], 1 if no norm precedes it.
        rows: [O] order of the output.
        bias: [O] as the pass uses it; None if it has none.
        factor: factor of the output.
        lora: its LoRA pair; None if it has none.
    """

    weight: Tensor
    norm: Tensor
    rows: Tensor
    bias: Tensor | None
    factor: float
    lora: _Lora | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    qkv: tuple[_Projection, ...]
    o: tuple[_Projection, ...]
    gate_up: tuple[_Projection, ...]
    down: tuple[_Projection, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWeights:
    """The projections of one decoder layer at one checkpoint; projections of the same input are joined."""

    qkv: DualLinear
    o: DualLinear
    gate_up: DualLinear
    down: DualLinear


@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardMode:
    """A decoder prepared for forward mode; see :func:`open_forward_mode`."""

    model: PreTrainedModel
    layers: tuple[_Layer, ...]

    @property
    def window(self) -> int | None:
        """The sliding window of all layers; None: a token attends to its complete path."""
        (window,) = set(layer_windows(self.model.config))
        return window


def open_forward_mode(model: PreTrainedModel, pairs: Sequence[tuple[nn.Linear, nn.Linear]]) -> ForwardMode:
    """Checks that the pass supports the model, and folds norms, scales and the order of rotary halves into its weights.

    Args:
        model: the base model with one LoRA adapter in it, in fp32 or fp64.
        pairs: its LoRA pairs, in the order of the vectors' ``Matrices``.

    Raises:
        ConfigError: the architecture, the adapter or the number type is not supported.
    """
    _require_supported_form(model)
    places = {id(a): place for place, (a, _) in enumerate(pairs)}
    opened = ForwardMode(model=model, layers=tuple(_opened_layer(layer, places) for layer in _decoder_layers(model)))
    found = sum(part.lora is not None for layer in opened.layers for group in vars(layer).values() for part in group)
    if found != len(pairs):
        raise _unsupported(f"{len(pairs) - found} LoRA pairs outside the decoder's projections")
    return opened


def _require_supported_form(model: PreTrainedModel) -> None:
    config = model.config
    if config.model_type not in ARCHITECTURES:
        raise _unsupported(f"the architecture {config.model_type}")
    if config.hidden_act != "silu":
        raise _unsupported(f"the activation {config.hidden_act}")
    if len(set(layer_windows(config))) > 1:
        raise _unsupported("sliding windows in some of its layers")
    if config.rope_parameters["rope_type"] not in ROTARY_TYPES:
        raise _unsupported(f"rotary positions of type {config.rope_parameters['rope_type']}")
    if model.dtype not in (torch.float32, torch.float64):
        raise _unsupported(f"weights of type {model.dtype}")


def _unsupported(found: str) -> ConfigError:
    return ConfigError(
        f"forward mode supports {', '.join(ARCHITECTURES)} in fp32, found {found}",
        action="score sample by sample (influence.engine: samples), which supports every LoRA model",
    )


def _decoder_layers(model: PreTrainedModel) -> Any:
    return model.base_model.layers


def has_head_norms(layer: Any) -> bool:
    """Whether a layer norms each head of its queries and keys; the queries are then scaled after their norm."""
    return hasattr(layer.self_attn, "q_norm")


def rotary_order(size: int) -> Tensor:
    """Order of the components of a head: x_i and x_(i + d/2), which rotate together, become one complex number."""
    return torch.arange(size).view(2, size // 2).T.flatten()


def _opened_layer(layer: Any, places: dict[int, int]) -> _Layer:
    parts = {name: getattr(getattr(layer, block), name) for block, names in PROJECTIONS.items() for name in names}
    attention, feed = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
    size = int(layer.self_attn.head_dim)

    def opened(name: str, norm: Tensor | None = None, *, rotary: bool = False, factor: float = 1.0) -> _Projection:
        return _opened_projection(name, parts[name], places, norm=norm, head=size if rotary else None, factor=factor)

    return _Layer(
        qkv=(
            opened("q_proj", attention, rotary=True, factor=1.0 if has_head_norms(layer) else size**-0.5),
            opened("k_proj", attention, rotary=True),
            opened("v_proj", attention),
        ),
        o=(opened("o_proj"),),
        gate_up=(opened("gate_proj", feed), opened("up_proj", feed)),
        down=(opened("down_proj"),),
    )


def _opened_projection(
    name: str, module: Any, places: dict[int, int], *, norm: Tensor | None, head: int | None, factor: float
) -> _Projection:
    adapted: bool = isinstance(module, LoraLayer)
    base: Any = module.get_base_layer() if adapted else module
    if type(base) is not nn.Linear:
        raise _unsupported(f"{name} of type {type(base).__name__}")
    outputs, inputs = base.weight.shape
    rows = torch.arange(outputs, device=base.weight.device)
    if head is not None:
        rows = rows.view(-1, head)[:, rotary_order(head)].flatten()
    scale = base.weight.new_ones(inputs) if norm is None else norm.detach()
    return _Projection(
        weight=(base.weight.detach() * scale)[rows] * factor,
        norm=scale,
        rows=rows,
        bias=None if base.bias is None else base.bias.detach()[rows] * factor,
        factor=factor,
        lora=_lora(name, module, places) if adapted else None,
    )


def _lora(name: str, module: Any, places: dict[int, int]) -> _Lora:
    (adapter,) = module.active_adapters if len(module.active_adapters) == 1 else ("",)
    if not adapter or adapter in module.lora_variant or module.lora_bias[adapter] or module.merged:
        raise _unsupported(f"an adapter of {name} that is not a plain LoRA pair")
    if id(module.lora_A[adapter]) not in places:
        raise _unsupported(f"an adapter of {name} that is not among the given pairs")
    return _Lora(
        place=places[id(module.lora_A[adapter])],
        a=module.lora_A[adapter],
        b=module.lora_B[adapter],
        scale=module.scaling[adapter],
    )


def layer_weights(opened: ForwardMode, vectors: Sequence[Matrices]) -> tuple[LayerWeights, ...]:
    """The loaded weights with merged LoRA pairs, and their derivatives along K vectors.

    Valid until another checkpoint is loaded into the model.

    Args:
        opened: the decoder.
        vectors: K test vectors.
    """
    return tuple(
        LayerWeights(**{name: _joined(group, vectors) for name, group in vars(layer).items()})
        for layer in opened.layers
    )


def _joined(group: Sequence[_Projection], vectors: Sequence[Matrices]) -> DualLinear:
    """The stacked projections of a group, with their low-rank products as blocks."""
    weights, downs, ups = [], [], []
    outputs = [len(part.rows) for part in group]
    for index, part in enumerate(group):
        if part.lora is None:
            weights.append(part.weight)
            continue
        a, b = part.lora.a.weight.detach() * part.norm, part.lora.b.weight.detach()[part.rows]
        b = b * (part.lora.scale * part.factor)
        weights.append(part.weight + b @ a)
        pairs = [vector[part.lora.place] for vector in vectors]
        moved_b = [vector_b[part.rows] * (part.lora.scale * part.factor) for _, vector_b in pairs]
        downs.append(torch.stack([torch.cat([a, vector_a * part.norm]) for vector_a, _ in pairs]))
        up = torch.stack([torch.cat([one, b], dim=1).T for one in moved_b])
        ups.append(nn.functional.pad(up, (sum(outputs[:index]), sum(outputs[index + 1 :]))))
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    return DualLinear(
        weight=weight,
        bias=_joined_bias(group),
        down=torch.cat(downs, 1) if downs else None,
        up=torch.cat(ups, 1) if ups else None,
    )


def _joined_bias(group: Sequence[_Projection]) -> Tensor | None:
    """The stacked biases of a group, 0 where a projection has none; None if none has one."""
    if all(part.bias is None for part in group):
        return None
    return torch.cat([part.weight.new_zeros(len(part.rows)) if part.bias is None else part.bias for part in group])
