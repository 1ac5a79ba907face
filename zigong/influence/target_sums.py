"""Sums of the gradients of targets by group: of a shard, or of all targets in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zigong.influence.capture import OpenAgent, sample_gradients, use_checkpoint
from zigong.influence.factorised import Matrices
from zigong.influence.precondition import preconditioners
from zigong.influence.target_groups import GroupKey, group_keys, group_name, target_groups
from zigong.influence.targets import TargetGradients, target_fingerprint
from zigong.recipe import Influence
from zigong.tokens.samples import Indices, Samples, batch_of, sample_lengths, token_budget_batches, trainable


def target_gradients(
    agent: OpenAgent, targets: Samples, settings: Influence, *, business_timezone: str
) -> TargetGradients:
    """Sums the gradients of the targets at every checkpoint, in this process and in memory.

    Those of the step ``score_influence``, which workers compute in shards, agree up to float rounding: its batches are
    others.

    Args:
        agent: the opened agent.
        targets: the tests z', in any order.
        settings: recipe section ``influence``.
        business_timezone: T of a date is midnight in this zone; determines which targets are later than a maturity.

    Raises:
        DataError: there is no target, or a target is too long or has no token in the loss.
    """
    groups = target_groups(_described(targets), settings.scope, business_timezone=business_timezone)
    _, place, known = _placed(agent, targets, settings)
    factors = preconditioners(agent, settings)
    return TargetGradients(
        fingerprint=target_fingerprint(agent.manifest, known.sample_id, settings),
        target_ids=tuple(sorted(known.sample_id)),
        names=agent.names,
        groups=tuple(groups.values()),
        sums=tuple(
            tuple((a.float(), b.float()) for a, b in _group_sums(agent, checkpoint, known, place, settings, factors))
            for checkpoint in range(len(agent.adapters))
        ),
    )


def group_table(
    agent: OpenAgent, targets: Samples, checkpoint: int, settings: Influence, factors: tuple[Matrices, ...] | None
) -> pa.Table:
    """Sums of the gradients of some targets at one checkpoint.

    Args:
        agent: the opened agent.
        targets: the targets of a shard.
        checkpoint: index of the checkpoint.
        settings: recipe section ``influence``.
        factors: result of :func:`preconditioners`.

    Returns:
        One row per group: ``group`` (its name), ``count`` (its targets among these) and, in fp64, its sum as one column
        per LoRA weight: NAME/A [r, D] and NAME/B [O, r].

    Raises:
        DataError: a target is too long or has no token in the loss.
    """
    keys, place, known = _placed(agent, targets, settings)
    sums = _group_sums(agent, checkpoint, known, place, settings, factors)
    columns = {
        f"{name}/{side}": pa.FixedShapeTensorArray.from_numpy_ndarray(part.numpy())
        for name, pair in zip(agent.names, sums, strict=True)
        for side, part in zip("AB", pair, strict=True)
    }
    return pa.table({"group": list(map(group_name, keys)), "count": np.bincount(place), **columns})


def _placed(agent: OpenAgent, targets: Samples, settings: Influence) -> tuple[list[GroupKey], Indices, Samples]:
    """The groups of the targets, sorted, the place [N] of each target among them, and the targets as they bear loss."""
    manifest = agent.manifest
    known = trainable(targets, ends=agent.ends, count_eos=manifest.count_eos, context_length=manifest.context_length)
    keys = group_keys(_described(targets), settings.scope)
    groups = sorted(set(keys))
    places = {key: number for number, key in enumerate(groups)}
    return groups, np.array([places[key] for key in keys], dtype=np.int64), known


def _described(targets: Samples) -> pa.Table:
    described = ("sample_id", "user_id", "observation_date", "label")
    return pa.table({name: list(getattr(targets, name)) for name in described})


def _group_sums(
    agent: OpenAgent,
    checkpoint: int,
    targets: Samples,
    place: Indices,
    settings: Influence,
    factors: tuple[Matrices, ...] | None,
) -> Matrices:
    """Sums (A [G, r, D], B [G, O, r]) in fp64 over the targets of each group, on the CPU.

    They are added on the agent's device, group by group, since a scattered addition has no fixed order on a GPU.

    Args:
        place: [N], the group of each target.
    """
    use_checkpoint(agent, checkpoint)
    count, device = int(place.max()) + 1, agent.model.device
    sums: Matrices = tuple(
        (_zeros(count, pair.a.weight, device), _zeros(count, pair.b.weight, device)) for pair in agent.pairs
    )
    for indices in token_budget_batches(sample_lengths(targets), settings.batch_tokens):
        gradients = sample_gradients(agent, batch_of(targets, indices))
        if factors is not None:
            gradients = _zipped(torch.mul, gradients, factors[checkpoint])
        if settings.normalise == "cosine":
            scale = (1 / _norms(gradients))[:, None, None]
            gradients = tuple((a * scale, b * scale) for a, b in gradients)
        for group in np.unique(place[indices]):
            rows = torch.from_numpy(np.flatnonzero(place[indices] == group)).to(device)
            for total, part in zip(_flat(sums), _flat(gradients), strict=True):
                total[group] += part[rows].sum(0, dtype=torch.float64)
    return tuple((a.cpu(), b.cpu()) for a, b in sums)


def _zeros(count: int, weight: Tensor, device: torch.device) -> Tensor:
    return torch.zeros(count, *weight.shape, dtype=torch.float64, device=device)


def _flat(matrices: Matrices) -> Iterator[Tensor]:
    return (part for pair in matrices for part in pair)


def _zipped(combine: Callable[[Tensor, Tensor], Tensor], first: Matrices, second: Matrices) -> Matrices:
    return tuple((combine(a, c), combine(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def _norms(gradients: Matrices) -> Tensor:
    squares = [part.square().sum((1, 2), dtype=torch.float64) for part in _flat(gradients)]
    return torch.stack(squares).sum(0).sqrt().float()
