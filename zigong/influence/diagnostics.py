"""Diagnoses the reliability of the targets' mean gradient at each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zigong.influence.factorised import Matrices
from zigong.influence.targets import TargetGradients
from zigong.training.checkpoints import CheckpointManifest


@dataclass(frozen=True, kw_only=True)
class CheckpointDiagnostics:
    """Reliability of the targets' mean gradient at one checkpoint.

    Attributes:
        checkpoint: name of the checkpoint.
        class_cosine: cosine of the mean gradients of bad and good targets. Near -1, the mean over both reflects only
            their imbalance. None if a class is absent.
        half_cosine: cosine of the mean gradients of two random halves. Near 0, the mean is noise. None if a half is
            empty.
    """

    checkpoint: str
    class_cosine: float | None
    half_cosine: float | None


def target_diagnostics(targets: TargetGradients, manifest: CheckpointManifest) -> tuple[CheckpointDiagnostics, ...]:
    """The diagnostics of every checkpoint."""
    labels, halves = [group.label for group in targets.groups], [group.half for group in targets.groups]
    return tuple(
        CheckpointDiagnostics(
            checkpoint=checkpoint.name,
            class_cosine=_cosine_of_two(matrices, labels),
            half_cosine=_cosine_of_two(matrices, halves),
        )
        for checkpoint, matrices in zip(manifest.checkpoints, targets.sums, strict=True)
    )


def diagnostic_figures(targets: TargetGradients, manifest: CheckpointManifest) -> dict[str, float]:
    """The available diagnostics as a flat mapping of metrics."""
    return {
        f"influence.{found.checkpoint}.{name}": value
        for found in target_diagnostics(targets, manifest)
        for name, value in (("class_cosine", found.class_cosine), ("half_cosine", found.half_cosine))
        if value is not None
    }


def _cosine_of_two(matrices: Matrices, side: Sequence[int]) -> float | None:
    if set(side) != {0, 1}:
        return None
    first, second = (_flat_sum(matrices, torch.tensor([float(one == wanted) for one in side])) for wanted in (0, 1))
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


def _flat_sum(matrices: Matrices, weights: Tensor) -> Tensor:
    """The weighted sum [P] of groups; no copy of their sums is made, which may be a file."""
    return torch.cat([torch.einsum("g,gij->ij", weights, part).flatten() for pair in matrices for part in pair])
