"""Gradients of the target samples: summed by group at every checkpoint, and folded into one vector per checkpoint."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np
import torch
from torch import Tensor

from zigong.errors import DataError
from zigong.files.digests import json_digest
from zigong.influence.capture import OpenAgent, sample_gradients, use_checkpoint
from zigong.influence.decay import target_weight
from zigong.influence.factorised import Matrices
from zigong.influence.precondition import preconditioners
from zigong.recipe import Influence
from zigong.tokens.samples import Indices, Samples, batch_of, sample_lengths, token_budget_batches, trainable
from zigong.training.checkpoints import CheckpointManifest


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    """Targets whose gradients are summed: of one date, one label and one of two halves by the hash of sample_id.

    With ``scope: user`` also of one user; otherwise ``user_id`` is None.
    """

    observation_date: date
    observation_at: datetime
    label: int
    half: int
    count: int
    user_id: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetGradients:
    """Sums of the targets' gradients, per checkpoint and group.

    A target's gradient is first multiplied by the preconditioner and then, with ``normalise: cosine``, divided by its
    norm, so a mean of cosines is also one product, divided by the norm of the sample's gradient.

    Attributes:
        fingerprint: digest of agent and targets, see :func:`target_fingerprint`.
        target_ids: keys of the targets, sorted.
        names: names of the LoRA pairs.
        groups: the groups of the first dimension of ``sums``, sorted by date.
        sums: sums per checkpoint and LoRA pair (A [G, r, D], B [G, O, r]).
    """

    fingerprint: str
    target_ids: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[TargetGroup, ...]
    sums: tuple[Matrices, ...]

    @property
    def dates(self) -> tuple[date, ...]:
        """The distinct observation dates of the targets, sorted."""
        return tuple(sorted({group.observation_date for group in self.groups}))

    @property
    def moments(self) -> tuple[datetime, ...]:
        """The distinct observation moments of the targets, sorted."""
        return tuple(sorted({group.observation_at for group in self.groups}))

    def moments_of(self, user_id: str) -> tuple[datetime, ...]:
        """The distinct observation moments of one user's targets, sorted; empty if the user has none."""
        return self._users.get(user_id, ((), ()))[0]

    def groups_of(self, user_id: str, first_date: int) -> list[int]:
        """The groups of one user's targets from its date with index ``first_date`` on, in ascending order."""
        moments, groups = self._users[user_id]
        return [group for group in groups if self.groups[group].observation_at >= moments[first_date]]

    @cached_property
    def _users(self) -> dict[str, tuple[tuple[datetime, ...], tuple[int, ...]]]:
        members: defaultdict[str, list[int]] = defaultdict(list)
        for number, group in enumerate(self.groups):
            if group.user_id is not None:
                members[group.user_id].append(number)
        return {
            user_id: (tuple(sorted({self.groups[n].observation_at for n in numbers})), tuple(numbers))
            for user_id, numbers in members.items()
        }


def target_fingerprint(manifest: CheckpointManifest, target_ids: Sequence[str], settings: Influence) -> str:
    """SHA-256 of the inputs of the sums: base model, adapters, targets and gradient settings, but not the decay."""
    content = {
        "adapters": [item.adapter_digest for item in manifest.checkpoints],
        "second_moments": [item.second_moments_digest for item in manifest.checkpoints],
        "base": manifest.base_digest,
        "count_eos": manifest.count_eos,
        "targets": sorted(target_ids),
        "settings": settings.model_dump(mode="json", include={"scope", "normalise", "precondition", "precision"}),
    }
    return json_digest(content)


def scorer_fingerprint(manifest: CheckpointManifest, settings: Influence, target_ids: Sequence[str]) -> str:
    """SHA-256 of everything that determines a score except the scored sample: agent, targets and settings."""
    content = {
        "targets": target_fingerprint(manifest, target_ids, settings),
        "checkpoints": [[item.eta, item.last_observation_date.isoformat()] for item in manifest.checkpoints],
        "months_per_period": manifest.months_per_period,
        "settings": settings.model_dump(mode="json", exclude={"batch_tokens", "gradient_checkpointing"}),
    }
    return json_digest(content)


def target_gradients(
    agent: OpenAgent, targets: Samples, settings: Influence, *, business_timezone: str
) -> TargetGradients:
    """Sums the gradients of the targets at every checkpoint.

    Args:
        agent: the opened agent.
        targets: the tests z', in any order.
        settings: recipe section ``influence``.
        business_timezone: T of a date is midnight in this zone; determines which targets are later than a maturity.

    Raises:
        DataError: there is no target, or a target is too long or has no token in the loss.
    """
    if not len(targets):
        raise DataError("there are no target samples to score against", action="check the split: target is empty")
    manifest = agent.manifest
    known = trainable(targets, ends=agent.ends, count_eos=manifest.count_eos, context_length=manifest.context_length)
    zone = ZoneInfo(business_timezone)
    members = _grouped(known, settings)
    place = np.empty(len(known), dtype=np.int64)
    for number, indices in enumerate(members.values()):
        place[indices] = number
    factors = preconditioners(agent, settings)
    sums = tuple(
        _group_sums(agent, checkpoint, known, place, settings, factors) for checkpoint in range(len(agent.adapters))
    )
    groups = tuple(
        TargetGroup(
            observation_date=day,
            observation_at=datetime.combine(day, time(), zone).astimezone(UTC),
            label=label,
            half=half,
            count=len(indices),
            user_id=user_id or None,
        )
        for (day, label, half, user_id), indices in members.items()
    )
    return TargetGradients(
        fingerprint=target_fingerprint(manifest, known.sample_id, settings),
        target_ids=tuple(sorted(known.sample_id)),
        names=agent.names,
        groups=groups,
        sums=sums,
    )


def _grouped(targets: Samples, settings: Influence) -> dict[tuple[date, int, int, str], Indices]:
    halves = [hashlib.sha256(key.encode()).digest()[0] % 2 for key in targets.sample_id]
    users = targets.user_id if settings.scope == "user" else ("",) * len(targets)
    members: defaultdict[tuple[date, int, int, str], list[int]] = defaultdict(list)
    keys = list(zip(targets.observation_date, targets.label.tolist(), halves, users, strict=True))
    for index in sorted(range(len(keys)), key=lambda i: (keys[i], targets.sample_id[i])):
        members[keys[index]].append(index)
    return {key: np.array(indices, dtype=np.int64) for key, indices in members.items()}


def _group_sums(
    agent: OpenAgent,
    checkpoint: int,
    targets: Samples,
    place: Indices,
    settings: Influence,
    factors: tuple[Matrices, ...] | None,
) -> Matrices:
    """Sums [G, ...] over the targets of each group; ``place`` [N] is the group of each target."""
    use_checkpoint(agent, checkpoint)
    count = int(place.max()) + 1
    shapes = [(pair.a.weight.shape, pair.b.weight.shape) for pair in agent.pairs]
    sums: Matrices = tuple((torch.zeros(count, *a), torch.zeros(count, *b)) for a, b in shapes)
    for indices in token_budget_batches(sample_lengths(targets), settings.batch_tokens):
        gradients = sample_gradients(agent, batch_of(targets, indices))
        if factors is not None:
            gradients = _zipped(torch.mul, gradients, factors[checkpoint])
        scale = (1 / _norms(gradients)).cpu() if settings.normalise == "cosine" else torch.ones(len(indices))
        rows = torch.from_numpy(place[indices])
        for total, part in zip(_flat(sums), _flat(gradients), strict=True):
            total.index_add_(0, rows, part.cpu() * scale[:, None, None])
    return sums


def _flat(matrices: Matrices) -> Iterator[Tensor]:
    return (part for pair in matrices for part in pair)


def _zipped(combine: Callable[[Tensor, Tensor], Tensor], first: Matrices, second: Matrices) -> Matrices:
    return tuple((combine(a, c), combine(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def _norms(gradients: Matrices) -> Tensor:
    squares = [part.square().sum((1, 2), dtype=torch.float64) for part in _flat(gradients)]
    return torch.stack(squares).sum(0).sqrt().float()


def folded_vector(
    targets: TargetGradients, manifest: CheckpointManifest, settings: Influence, *, first_date: int, checkpoint: int
) -> Matrices:
    """v_i = mean over eligible tests of gamma^(T - t_i) * eta_i * gradient of the test at checkpoint i.

    Args:
        targets: sums of the tests' gradients.
        manifest: manifest of the agent.
        settings: recipe section ``influence``.
        first_date: index of the first eligible test date.
        checkpoint: i, the index of the checkpoint.
    """
    eligible = set(targets.dates[first_date:])
    count = sum(group.count for group in targets.groups if group.observation_date in eligible)
    weights = torch.tensor(
        [
            target_weight(group.observation_date, checkpoint, manifest, settings) / count
            if group.observation_date in eligible
            else 0.0
            for group in targets.groups
        ]
    )
    return tuple(
        (torch.einsum("g,grd->rd", weights, a), torch.einsum("g,gor->or", weights, b))
        for a, b in targets.sums[checkpoint]
    )


def weighted_sums(
    targets: TargetGradients, checkpoint: int, groups: Sequence[list[int]], weights: Sequence[list[float]]
) -> Matrices:
    """One vector per sample at a checkpoint: weighted sums of the sample's groups (A [N, r, D], B [N, O, r])."""
    rows = [(own, torch.tensor(of_own)[:, None, None]) for own, of_own in zip(groups, weights, strict=True)]

    def folded(sums: Tensor) -> Tensor:
        return torch.stack([(sums[own] * of_own).sum(0) for own, of_own in rows])

    return tuple((folded(a), folded(b)) for a, b in targets.sums[checkpoint])
