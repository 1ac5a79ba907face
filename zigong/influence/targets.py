"""Gradients of the target samples, summed by group at every checkpoint, and the vectors that they fold into."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import torch
from torch import Tensor

from zigong.files.digests import json_digest
from zigong.influence.decay import target_weight
from zigong.influence.factorised import Matrices
from zigong.influence.target_groups import TargetGroup
from zigong.recipe import Influence
from zigong.training.checkpoints import CheckpointManifest


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
