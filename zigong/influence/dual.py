"""Dual tensors of values and directional derivatives: the layers of a Llama-like decoder in forward mode.

A dual tensor [1 + K, ...] holds a value and then its derivatives along K vectors. Each function applies one layer to
both: to the value as usual, to each derivative by the product rule. Nothing is stored for a backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Scores = Callable[[Tensor, Tensor], Tensor]  # queries [..., Q, d], keys [..., S, d] -> [..., Q, S']
Mixture = Callable[[Tensor, Tensor], Tensor]  # weights [..., Q, S'], values [..., S, d] -> [..., Q, d]


@dataclass(frozen=True, kw_only=True, eq=False)
class DualLinear:
    """A linear layer y = x W^T whose weight has low-rank derivatives along K vectors.

    Attributes:
        weight: W [O, D].
        bias: [O], added to the value; it is constant, so that no derivative has it. None: there is none.
        down: [K, r', D]; None if the weight is constant.
        up: [K, r', O]; the derivative of W along vector k is (down_k^T up_k)^T.
    """

    weight: Tensor
    bias: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None


def dual_linear(x: Tensor, layer: DualLinear) -> Tensor:
    """[1 + K, T, D] -> [1 + K, T, O]."""
    y = x @ layer.weight.T
    if layer.bias is not None:
        y[0] += layer.bias
    if layer.down is not None and layer.up is not None:
        y[1:].baddbmm_(x[0] @ layer.down.mT, layer.up)
    return y


def dual_normed(x: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square normalisation without its weight, over the last dimension of [1 + K, T, D].

    With n = x / rms(x), dn = (dx - n mean(n dx)) / rms(x).
    """
    scale = (x[0].square().mean(-1, keepdim=True) + epsilon).rsqrt_()
    normed = x * scale
    products = (normed[1:] * normed[0]).mean(-1, keepdim=True)
    normed[1:].addcmul_(normed[0], products, value=-1)
    return normed


def dual_swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of [1 + K, T, 2 F] -> [1 + K, T, F].

    With s = silu(g), ds/dg = sigmoid(g) (1 + g - s).
    """
    gate, up = gate_up.chunk(2, dim=-1)
    sigmoid = torch.sigmoid(gate[0])
    silu = gate[0] * sigmoid
    slope = sigmoid.mul_(gate[0] - silu + 1).mul_(up[0])
    product = up * silu
    product[1:].addcmul_(gate[1:], slope)
    return product


def dual_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *, scores: Scores, mixture: Mixture) -> Tensor:
    """Softmax attention of dual queries [1 + K, ..., Q, d] over dual keys and values [1 + K, ..., S, d].

    With p = softmax(s) and o = p v, do = (p ds) v + p dv - o sum(p ds), where ds = dq k^T + q dk^T.

    Args:
        q: queries, already divided by the square root of their size.
        k: keys.
        v: values.
        bias: added to the scores; -inf masks a pair.
        scores: products of queries and keys.
        mixture: weighted sums of values.
    """
    weights = torch.softmax(scores(q[0], k[0]).add_(bias), dim=-1)
    mixed = torch.empty_like(q)
    mixed[0] = mixture(weights, v[0])
    for index in range(1, len(q)):
        moved = scores(torch.cat([q[index], q[0]], -1), torch.cat([k[0], k[index]], -1)).mul_(weights)
        total = moved.sum(-1, keepdim=True)
        mixed[index] = mixture(moved, v[0]).add_(mixture(weights, v[index])).addcmul_(mixed[0], total, value=-1)
    return mixed


def dual_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihoods of the targets [M] under dual logits [1 + K, M, V]: [1 + K, M]."""
    chosen = logits.gather(-1, targets.expand(len(logits), -1)[..., None])[..., 0]
    normaliser = torch.empty_like(chosen)
    normaliser[0] = torch.logsumexp(logits[0], dim=-1)
    normaliser[1:] = (torch.softmax(logits[0], dim=-1) * logits[1:]).sum(-1)
    return normaliser - chosen
