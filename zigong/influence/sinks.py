"""Consumers of per-sample gradients: contract with one vector, multiply each with its own vector, or collect."""

from __future__ import annotations

import torch
from torch import Tensor

from zigong.influence.factorised import Factors, Matrices


class Contraction:
    """Products of each sample's gradient with one vector."""

    materialises = False

    def __init__(self, samples: int, vector: Matrices) -> None:
        device = vector[0][0].device
        self.vector: Matrices | None = vector
        self.products = torch.zeros(samples, dtype=torch.float64, device=device)

    def take(self, factors: Factors) -> None:
        """Adds the pair's share, summed in at least fp32."""
        if factors.x_vector is None or factors.dy_vector is None:
            raise ValueError("a contraction needs its vector")
        through_a = factors.left.float() * factors.x_vector.float()
        through_b = factors.dy_vector.float() * factors.h.float()
        self.products += (through_a + through_b).sum((1, 2))


class Matched:
    """Products [N, 1] of each sample's gradient, built one layer at a time and then dropped, with its own vector.

    The bits of a product depend only on the sample's gradient and vector. A single matrix product of all samples with
    all vectors would not have this property: its order of summation depends on the sizes.

    Args:
        samples: N, the number of samples.
        stacked: (A [N, r, D], B [N, O, r]) of each pair, on any device; [1, ...] is one vector for all samples.
        norms: whether ``scaled`` divides by the norms of the samples' gradients.
    """

    vector: Matrices | None = None
    materialises = True

    def __init__(self, samples: int, stacked: Matrices, *, device: torch.device, norms: bool = False) -> None:
        self._products = torch.zeros(samples, 1, dtype=torch.float64, device=device)
        self._squares = torch.zeros(samples, dtype=torch.float64, device=device) if norms else None
        self._stacked = stacked

    @property
    def scaled(self) -> Tensor:
        """The products, divided by the norms of the samples' gradients if ``norms`` is set."""
        return self._products if self._squares is None else _normed(self._products, self._squares)

    def take(self, factors: Factors) -> None:
        """Builds the pair's gradients and multiplies them."""
        for found, vectors in zip(materialised(factors), self._stacked[factors.index], strict=True):
            gradient = found.float()
            self._products[:, 0] += _summed(gradient * vectors.to(gradient.device, torch.float32))
            if self._squares is not None:
                self._squares += _summed(gradient.square())


def _normed(products: Tensor, squares: Tensor) -> Tensor:
    return products / squares.sqrt().to(products.dtype)[:, None]


def _summed(matrices: Tensor) -> Tensor:
    """Sums [N, ., .] to [N] in two steps: a full reduction to one number would be divided among threads."""
    return matrices.sum(2).sum(1)


class Collection:
    """Collects every sample's gradients: (A [N, r, D], B [N, O, r]) of each pair in fp32."""

    vector: Matrices | None = None
    materialises = True

    def __init__(self, pairs: int) -> None:
        self._found: dict[int, tuple[Tensor, Tensor]] = {}
        self._pairs = pairs

    def take(self, factors: Factors) -> None:
        """Stores the pair's gradients."""
        a, b = materialised(factors)
        self._found[factors.index] = (a.float(), b.float())

    @property
    def gradients(self) -> Matrices:
        """The gradients in the order of the pairs."""
        return tuple(self._found[index] for index in range(self._pairs))


def materialised(factors: Factors) -> tuple[Tensor, Tensor]:
    """(gA [N, r, D], gB [N, O, r]) of each sample."""
    if factors.x is None:
        raise ValueError("expected factors with x: the sink must set materialises")
    a = torch.bmm(factors.left.transpose(1, 2), factors.x)
    b = torch.bmm(factors.dy.transpose(1, 2), factors.h * factors.scale)
    return a, b
