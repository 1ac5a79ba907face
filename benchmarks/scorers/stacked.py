"""Scores against many vectors at once, from the passes of scoring. Only used for comparisons, by no recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from zigong.influence.capture import OpenAgent, pass_through
from zigong.influence.factorised import Factors, Matrices
from zigong.influence.sinks import materialised
from zigong.tokens.samples import LabelledBatch

BLOCK_BYTES = 256 * 2**20  # of one block of stacked vectors
HELD_BYTES = 64 * 2**20  # of gradients that wait for their product with them


def score_against(
    agent: OpenAgent,
    batches: Sequence[LabelledBatch],
    stacked: Matrices,
    *,
    normalise: Literal["dot", "cosine"] = "dot",
) -> Tensor:
    """Products of each sample's gradient with M stacked vectors at the weights in use: [N, M] in fp32.

    Each layer's gradients are built, wait for those of a few more batches, are multiplied with all vectors at once, and
    dropped.

    Args:
        agent: the opened agent; :func:`use_checkpoint` chooses the weights.
        batches: N samples in all, a pass each.
        stacked: (A [M, r, D], B [M, O, r]) of each pair, on any device; read in blocks of ``BLOCK_BYTES``.
        normalise: cosine divides by the norm of the sample's gradient; the vectors are used unchanged.
    """
    samples = sum(len(batch) for batch in batches)
    sink = Stack(samples, stacked, device=agent.model.device, norms=normalise == "cosine")
    for batch in batches:
        sink.begin(len(batch))
        pass_through(agent, batch, sink)
    return sink.finished()


class Stack:
    """Products [N, M] of the gradients of N samples, of several passes, with all of M stacked vectors.

    A layer's gradients wait for those of the next passes, up to ``HELD_BYTES`` in all: a product with few rows would
    spend its time on reading the vectors.

    Args:
        samples: N.
        stacked: (A [M, r, D], B [M, O, r]) of each pair, on any device: vectors are copied in blocks.
        norms: whether :meth:`finished` divides by the norms of the samples' gradients.
    """

    vector: Matrices | None = None
    materialises = True

    def __init__(self, samples: int, stacked: Matrices, *, device: torch.device, norms: bool = False) -> None:
        self._products = torch.zeros(samples, stacked[0][0].shape[0], dtype=torch.float32, device=device)
        self._squares = torch.zeros(samples, dtype=torch.float64, device=device) if norms else None
        self._stacked = stacked
        self._vectors_at_once = max(1, BLOCK_BYTES // (4 * max(part[0].numel() for pair in stacked for part in pair)))
        self._rows = slice(0, 0)
        self._held: dict[tuple[int, int], list[tuple[int, Tensor]]] = {}
        self._held_bytes = 0

    def begin(self, samples: int) -> None:
        """Starts a pass over the next ``samples`` samples; they follow those of the passes before."""
        self._rows = slice(self._rows.stop, self._rows.stop + samples)

    def take(self, factors: Factors) -> None:
        """Builds the pair's gradients and keeps them."""
        for side, gradient in enumerate(materialised(factors)):
            flat = gradient.float().flatten(1)
            self._held.setdefault((factors.index, side), []).append((self._rows.start, flat))
            self._held_bytes += 4 * flat.numel()
            if self._squares is not None:
                self._squares[self._rows] += gradient.float().square().sum((1, 2))
        if self._held_bytes > HELD_BYTES:
            self._multiply()

    def finished(self) -> Tensor:
        """The products, divided by the norms of the samples' gradients if requested: [N, M]."""
        self._multiply()
        return self._products if self._squares is None else self._products / self._squares.sqrt().float()[:, None]

    def _multiply(self) -> None:
        for (index, side), held in self._held.items():
            gradients, first = torch.cat([flat for _, flat in held]), held[0][0]
            rows, vectors = slice(first, first + len(gradients)), self._stacked[index][side]
            for start in range(0, vectors.shape[0], self._vectors_at_once):
                block = vectors[start : start + self._vectors_at_once].to(gradients.device, torch.float32).flatten(1)
                self._products[rows, start : start + len(block)].addmm_(gradients, block.T)
        self._held.clear()
        self._held_bytes = 0
