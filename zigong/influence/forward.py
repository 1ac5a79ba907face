"""Forward mode over token trees: the derivative of every branch's loss along given vectors, in one pass.

Reverse mode gives the gradient of a sum and cannot separate the branches of a tree; forward mode gives one number per
branch and vector, at the cost of one more forward pass per vector. Implemented for Llama-like decoders (Llama, Mistral,
Qwen 2 and 3): pre-norm, rotary positions, causal attention, SwiGLU, with or without biases and norms of heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zigong.influence.decoder import ForwardMode, LayerWeights, has_head_norms, rotary_order
from zigong.influence.dual import (
    dual_attention,
    dual_cross_entropy,
    dual_linear,
    dual_normed,
    dual_swiglu,
)
from zigong.tokens.blocks import TreeBlocks
from zigong.tokens.losses import mean_per_sample


@torch.no_grad()
def branch_derivatives(
    opened: ForwardMode, weights: Sequence[LayerWeights], blocks: TreeBlocks, *, vectors: int
) -> tuple[Tensor, Tensor]:
    """Losses of all branches, and their derivatives along the vectors.

    The last layer is computed at label positions only, since nothing reads its other outputs.

    Args:
        opened: the decoder.
        weights: weights of its layers, from :func:`layer_weights`.
        blocks: the trees.
        vectors: K, the number of vectors.

    Returns:
        Mean loss of each sample over its label tokens [N], and <its gradient, vector> [K, N], both fp64.
    """
    backbone: Any = opened.model.base_model
    x = backbone.embed_tokens(blocks.input_ids)
    cosines, sines = backbone.rotary_emb(x[None], blocks.position_ids[None])
    half = cosines.shape[-1] // 2
    turns = torch.complex(cosines[0, :, None, :half].contiguous(), sines[0, :, None, :half].contiguous())
    x = torch.cat([x[None], x.new_zeros(vectors, *x.shape)])
    for layer, weight in zip(backbone.layers, weights, strict=True):
        last = weight is weights[-1]
        mixed = _attended(layer, weight, x, turns, blocks, last=last)
        x = (x[:, blocks.label_tokens] if last else x) + dual_linear(mixed, weight.o)
        normed = dual_normed(x, layer.post_attention_layernorm.variance_epsilon)
        x = x + dual_linear(dual_swiglu(dual_linear(normed, weight.gate_up)), weight.down)
    normed = dual_normed(x, backbone.norm.variance_epsilon) * backbone.norm.weight
    losses = dual_cross_entropy(normed @ opened.model.get_output_embeddings().weight.T, blocks.label_targets)
    means = mean_per_sample(losses.double(), blocks.label_samples, blocks.samples)
    return means[0], means[1:]


def _attended(layer: Any, weight: LayerWeights, x: Tensor, turns: Tensor, blocks: TreeBlocks, *, last: bool) -> Tensor:
    """Attention output of one layer: [1 + K, T, H d], or [1 + K, M, H d] at the labels in the last layer."""
    attention = layer.self_attn
    size, groups = attention.head_dim, attention.num_key_value_groups
    joined = dual_linear(dual_normed(x, layer.input_layernorm.variance_epsilon), weight.qkv)
    joined = joined.view(*joined.shape[:2], -1, size)
    keys = joined.shape[2] // (groups + 2)
    if has_head_norms(layer):
        joined = _head_normed(attention, joined, keys * groups, keys)
    turned = joined[:, :, : keys * (groups + 1)]
    torch.view_as_complex(turned.view(*turned.shape[:-1], -1, 2)).mul_(turns)
    q, k, v = torch.split(joined, [keys * groups, keys, keys], dim=2)
    k, v = (_in_blocks(part, blocks.tokens_of_slots).repeat_interleave(groups, 2) for part in (k, v))
    if last:
        q = _in_blocks(q, blocks.label_slots)
        bias = blocks.label_bias[:, None]
        mixed = dual_attention(q, k, v, bias, scores=_products, mixture=torch.matmul)
        return mixed.transpose(2, 3).flatten(1, 2)[:, blocks.label_places].flatten(2)
    mixed = _mixed_in_blocks(_in_blocks(q, blocks.tokens_of_slots), k, v, blocks)
    return mixed.transpose(2, 3).flatten(1, 2)[:, blocks.slots_of_tokens].flatten(2)


def _head_normed(attention: Any, joined: Tensor, queries: int, keys: int) -> Tensor:
    """Queries, keys and values [1 + K, T, heads, d], the first two normed per head, and queries scaled."""
    order, size = rotary_order(attention.head_dim), attention.head_dim
    q, k, v = torch.split(joined, [queries, keys, keys], dim=2)
    q = dual_normed(q, attention.q_norm.variance_epsilon) * (attention.q_norm.weight[order] * size**-0.5)
    k = dual_normed(k, attention.k_norm.variance_epsilon) * attention.k_norm.weight[order]
    return torch.cat([q, k, v], dim=2)


def _in_blocks(x: Tensor, slots: Tensor) -> Tensor:
    """[1 + K, T, H, d] -> [1 + K, B, H, R, d]."""
    return x[:, slots].transpose(2, 3).contiguous()


def _products(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT


def _mixed_in_blocks(q: Tensor, k: Tensor, v: Tensor, blocks: TreeBlocks) -> Tensor:
    """Attention of trunks over themselves, and of branches over the trunk and their own path: [1 + K, B, H, R, d]."""
    trunk, branches = blocks.trunk, blocks.branches
    mixed = [
        dual_attention(
            q[..., :trunk, :], k[..., :trunk, :], v[..., :trunk, :], blocks.trunk_bias,
            scores=_products, mixture=torch.matmul,
        )
    ]  # fmt: skip
    if branches:
        scores, mixture = (partial(one, trunk=trunk, branches=branches) for one in (_branch_products, _branch_mixture))
        mixed.append(
            dual_attention(q[..., trunk:, :], k, v, blocks.branch_bias[:, None], scores=scores, mixture=mixture)
        )
    return torch.cat(mixed, dim=-2)


def _branch_products(q: Tensor, k: Tensor, *, trunk: int, branches: int) -> Tensor:
    """[B, H, C W, d] x [B, H, L + C W, d] -> [B, H, C W, L + W]."""
    own = _by_branch(q, branches) @ _by_branch(k[..., trunk:, :], branches).mT
    return torch.cat([q @ k[..., :trunk, :].mT, own.flatten(-3, -2)], dim=-1)


def _branch_mixture(weights: Tensor, v: Tensor, *, trunk: int, branches: int) -> Tensor:
    """[B, H, C W, L + W] x [B, H, L + C W, d] -> [B, H, C W, d]."""
    own = _by_branch(weights[..., trunk:], branches) @ _by_branch(v[..., trunk:, :], branches)
    return (weights[..., :trunk] @ v[..., :trunk, :]).add_(own.flatten(-3, -2))


def _by_branch(x: Tensor, branches: int) -> Tensor:
    """[..., C W, d] -> [..., C, W, d]."""
    return x.view(*x.shape[:-2], branches, -1, x.shape[-1])
