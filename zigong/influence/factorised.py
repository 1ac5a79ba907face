"""Per-sample LoRA gradients, factorised: one autograd function per input shared by LoRA layers.

With h = x A^T and y = x W^T + s h B^T of a LoRA pair A [r, D], B [O, r], and dy = dl/dy, a sample's gradients are
gB = s dy^T h and gA = (s dy B)^T x, summed over its positions. Their product with one vector (VA [r, D], VB [O, r]) is

    <gA, VA> + <gB, VB> = sum_s <(s dy B)_s, (x VA^T)_s> + sum_s <(s dy VB)_s, h_s>,

contracted over r: per-sample gradients are never materialised. With many vectors, gA and gB are built one layer at a
time and multiplied with all of them at once.

Only dl/dx is propagated back. Base weights, A and B require no gradient, layers that read the same x (q, k, v) share
the products with it, and the first layer of the model propagates nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from zigong.influence.lora import LoraPair

Matrices = tuple[tuple[Tensor, Tensor], ...]  # one (A [r, D], B [O, r]) for each LoRA pair, in the order of the pairs


def on_device(matrices: Matrices, device: torch.device) -> Matrices:
    """The same matrices on another device."""
    return tuple((a.to(device), b.to(device)) for a, b in matrices)


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """Factors of one pair in a backward pass: gA = left^T x and gB = dy^T (s h) for each sample.

    Attributes:
        index: index of the pair.
        x: [N, S, D]; None unless the sink materialises.
        h: [N, S, r], x A^T.
        left: [N, S, r], s dy B.
        dy: [N, S, O].
        scale: s.
        x_vector: [N, S, r], x VA^T, and
        dy_vector: [N, S, r], s dy VB; both None without a vector.
    """

    index: int
    x: Tensor | None
    h: Tensor
    left: Tensor
    dy: Tensor
    scale: float
    x_vector: Tensor | None
    dy_vector: Tensor | None


class Sink(Protocol):
    """Consumer of the factors.

    Attributes:
        vector: vector to contract with during the passes, or None.
        materialises: whether ``take`` needs x.
    """

    vector: Matrices | None
    materialises: bool

    def take(self, factors: Factors) -> None:
        """Called once per pair in a backward pass."""


@contextmanager
def captured(pairs: Sequence[LoraPair], groups: Sequence[Sequence[int]], sink: Sink) -> Iterator[None]:
    """Routes the LoRA layers through :class:`_SharedInput` in the with block, and passes the factors to ``sink``.

    Args:
        pairs: all LoRA layers of the model.
        groups: pairs that read the same tensor, in call order.
        sink: consumer of the factors.
    """
    gate = torch.ones((), requires_grad=True)
    for group in groups:
        stash = _Stash()
        for place, index in enumerate(group):
            pairs[index].layer.forward = partial(_forward, stash, place, pairs, tuple(group), gate, sink)
    try:
        yield
    finally:
        for pair in pairs:
            del pair.layer.forward


class _Stash:
    """Outputs of a group between the calls of its layers."""

    def __init__(self) -> None:
        self.x: Tensor | None = None
        self.outputs: tuple[Tensor, ...] = ()


def _forward(
    stash: _Stash, place: int, pairs: Sequence[LoraPair], group: tuple[int, ...], gate: Tensor, sink: Sink, x: Tensor
) -> Tensor:
    if place == 0:
        stash.x = x
        stash.outputs = _SharedInput.apply(x, gate, pairs, group, sink)
    if stash.x is not x:
        raise RuntimeError(f"{pairs[group[place]].name} was found to share its input, but received another one")
    output = stash.outputs[place]
    if place == len(group) - 1:
        stash.x, stash.outputs = None, ()
    return output


class _SharedInput(torch.autograd.Function):
    """All LoRA layers of one input: computes their outputs forward, and dl/dx and the factors backward.

    ``gate`` is a scalar that requires a gradient but receives none: it makes autograd visit the first layer, whose x
    requires none.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _: Tensor, pairs: Sequence[LoraPair], group: tuple[int, ...], sink: Sink
    ) -> tuple[Tensor, ...]:
        members = [pairs[index] for index in group]
        flat = x.reshape(-1, x.shape[-1])
        rows = [pair.a.weight for pair in members]
        if sink.vector is not None:
            rows += [sink.vector[index][0].to(x.dtype) for index in group]
        right = flat @ torch.cat(rows).T
        outputs, start = [], 0
        for pair in members:
            rank = pair.a.weight.shape[0]
            y = linear(flat, pair.base.weight, pair.base.bias)
            y.addmm_(right[:, start : start + rank], pair.b.weight.T, alpha=pair.scale)
            outputs.append(y.view(*x.shape[:-1], -1))
            start += rank
        ctx.save_for_backward(right, *((x,) if sink.materialises else ()))
        ctx.members, ctx.group, ctx.sink = members, group, sink
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor | None, ...]:
        right, *kept = ctx.saved_tensors
        members, sink = ctx.members, ctx.sink
        total = sum(pair.a.weight.shape[0] for pair in members)
        dx: Tensor | None = None
        start, lefts = 0, []
        for index, pair, dy in zip(ctx.group, members, dys, strict=True):
            rank = pair.a.weight.shape[0]
            flat, shape = dy.reshape(-1, dy.shape[-1]), dy.shape[:-1]
            vector = None if sink.vector is None else sink.vector[index][1].to(dy.dtype)
            columns = pair.b.weight if vector is None else torch.cat([pair.b.weight, vector], 1)
            left = flat @ (columns * pair.scale)
            sink.take(
                Factors(
                    index=index,
                    x=kept[0] if kept else None,
                    h=right[:, start : start + rank].view(*shape, rank),
                    left=left[:, :rank].view(*shape, rank),
                    dy=dy,
                    scale=pair.scale,
                    x_vector=None
                    if vector is None
                    else right[:, total + start : total + start + rank].view(*shape, rank),
                    dy_vector=None if vector is None else left[:, rank:].view(*shape, rank),
                )
            )
            if ctx.needs_input_grad[0]:
                dx = flat @ pair.base.weight if dx is None else dx.addmm_(flat, pair.base.weight)
            lefts.append(left[:, :rank])
            start += rank
        if dx is not None:
            dx.addmm_(torch.cat(lefts, 1), torch.cat([pair.a.weight for pair in members]))
            dx = dx.view(*dys[0].shape[:-1], -1)
        return dx, None, None, None, None
