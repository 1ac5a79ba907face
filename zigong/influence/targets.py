"""Gradients of the target samples: computed once, saved, folded into one vector per checkpoint, and examined."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from zigong.errors import ConfigError, DataError
from zigong.influence.capture import Matrices, OpenAgent, summed_gradient, use_checkpoint
from zigong.influence.decay import target_weight
from zigong.recipe import Influence
from zigong.training.checkpoints import CheckpointManifest
from zigong.training.samples import Indices, Samples, batch_of, sample_lengths, token_budget_batches, trainable


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    """Targets whose gradients are summed: one date, one label, one of two halves by the hash of sample_id."""

    observation_date: date
    observation_at: datetime
    label: int
    half: int
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetGradients:
    """Sums of the targets' gradients, per checkpoint and group.

    Attributes:
        fingerprint: of agent and targets, see :func:`target_fingerprint`.
        target_ids: keys of the targets, sorted.
        names: of the LoRA pairs.
        groups: what the first dimension of ``sums`` runs over, in the order of their dates.
        sums: per checkpoint and LoRA pair (A [G, r, D], B [G, O, r]).
    """

    fingerprint: str
    target_ids: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[TargetGroup, ...]
    sums: tuple[Matrices, ...]

    @property
    def dates(self) -> tuple[date, ...]:
        """The observation dates of the targets, sorted, once."""
        return tuple(sorted({group.observation_date for group in self.groups}))

    @property
    def moments(self) -> tuple[datetime, ...]:
        """The observation moments of the targets, sorted, once."""
        return tuple(sorted({group.observation_at for group in self.groups}))


def target_fingerprint(manifest: CheckpointManifest, target_ids: Sequence[str]) -> str:
    """SHA-256 of what decides the targets' gradients: base model, adapters and targets. The decay plays no part."""
    content = {
        "adapters": [item.adapter_digest for item in manifest.checkpoints],
        "base": manifest.base_digest,
        "count_eos": manifest.count_eos,
        "targets": sorted(target_ids),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def scorer_fingerprint(manifest: CheckpointManifest, settings: Influence, target_ids: Sequence[str]) -> str:
    """SHA-256 of everything that decides a score except the scored sample: agent, targets and settings."""
    content = {
        "targets": target_fingerprint(manifest, target_ids),
        "checkpoints": [[item.eta, item.last_observation_date.isoformat()] for item in manifest.checkpoints],
        "months_per_period": manifest.months_per_period,
        "settings": settings.model_dump(mode="json", exclude={"batch_tokens"}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def capped_targets(targets: Samples, max_targets: int) -> Samples:
    """At most ``max_targets`` targets: whole users, in the order of the hash of their pseudonym.

    Raises:
        DataError: the first user alone has more.
    """
    ranked = sorted(range(len(targets)), key=lambda i: hashlib.sha256(targets.user_id[i].encode()).digest())
    if len(ranked) <= max_targets:
        return targets
    end = max_targets
    while end and targets.user_id[ranked[end]] == targets.user_id[ranked[end - 1]]:
        end -= 1
    if not end:
        raise DataError(f"one user has more than {max_targets} targets", action="raise influence.max_targets")
    return targets.take(sorted(ranked[:end]))


def target_gradients(
    agent: OpenAgent, targets: Samples, settings: Influence, *, business_timezone: str
) -> TargetGradients:
    """Sums the gradients of the targets at every checkpoint.

    Args:
        agent: the opened agent.
        targets: the z'; their order is of no account.
        settings: recipe section ``influence``.
        business_timezone: T of a date is its midnight there; decides which targets are later than a maturity.

    Raises:
        DataError: there is no target, or one is too long or bears no loss.
    """
    if not len(targets):
        raise DataError("there are no target samples to score against", action="check the split: target is empty")
    manifest = agent.manifest
    known = trainable(
        targets, eos_id=agent.eos_id, count_eos=manifest.count_eos, context_length=manifest.context_length
    )
    zone = ZoneInfo(business_timezone)
    members = _grouped(known)
    sums = tuple(
        _stacked([_group_sum(agent, checkpoint, known, indices, settings.batch_tokens) for indices in members.values()])
        for checkpoint in range(len(manifest.checkpoints))
    )
    groups = tuple(
        TargetGroup(
            observation_date=day,
            observation_at=datetime.combine(day, time(), zone).astimezone(UTC),
            label=label,
            half=half,
            count=len(indices),
        )
        for (day, label, half), indices in members.items()
    )
    return TargetGradients(
        fingerprint=target_fingerprint(manifest, known.sample_id),
        target_ids=tuple(sorted(known.sample_id)),
        names=agent.names,
        groups=groups,
        sums=sums,
    )


def _grouped(targets: Samples) -> dict[tuple[date, int, int], Indices]:
    halves = [hashlib.sha256(key.encode()).digest()[0] % 2 for key in targets.sample_id]
    keys = list(zip(targets.observation_date, targets.label.tolist(), halves, strict=True))
    order = sorted(range(len(keys)), key=lambda i: (keys[i], targets.sample_id[i]))
    return {key: np.array([i for i in order if keys[i] == key]) for key in sorted(set(keys))}


def _group_sum(agent: OpenAgent, checkpoint: int, targets: Samples, indices: Indices, budget: int) -> Matrices:
    use_checkpoint(agent, checkpoint)
    total: Matrices | None = None
    for inner in token_budget_batches(sample_lengths(targets)[indices], budget):
        part = summed_gradient(agent, batch_of(targets, indices[inner]))
        total = part if total is None else tuple((a + c, b + d) for (a, b), (c, d) in zip(total, part, strict=True))
    if total is None:
        raise ValueError("a group has at least one sample")
    return total


def _stacked(groups: Sequence[Matrices]) -> Matrices:
    return tuple(
        (torch.stack([a for a, _ in pair]), torch.stack([b for _, b in pair])) for pair in zip(*groups, strict=True)
    )


def folded_vector(
    targets: TargetGradients, manifest: CheckpointManifest, settings: Influence, *, first_date: int, checkpoint: int
) -> Matrices:
    """v_i = mean over eligible tests of gamma^(T - t_i) * eta_i * their gradient at checkpoint i.

    Args:
        targets: sums of the tests' gradients.
        manifest: of the agent.
        settings: recipe section ``influence``.
        first_date: index of the first eligible test date.
        checkpoint: i.
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


def save_targets(targets: TargetGradients, file: Path) -> None:
    """Writes the gradients as safetensors, with groups and fingerprint in the header."""
    tensors = {
        f"{checkpoint}/{name}/{side}": tensor
        for checkpoint, matrices in enumerate(targets.sums)
        for name, pair in zip(targets.names, matrices, strict=True)
        for side, tensor in zip("AB", pair, strict=True)
    }
    groups = [
        [group.observation_date.isoformat(), group.observation_at.isoformat(), group.label, group.half, group.count]
        for group in targets.groups
    ]
    header = {
        "targets": targets.target_ids,
        "names": list(targets.names),
        "checkpoints": len(targets.sums),
        "groups": groups,
    }
    partial = file.with_name(f".{file.name}.partial")
    save_file(tensors, partial, metadata={"fingerprint": targets.fingerprint, "header": json.dumps(header)})
    partial.rename(file)


def read_targets(file: Path) -> TargetGradients:
    """Reads what :func:`save_targets` wrote.

    Raises:
        ConfigError: the file is missing.
    """
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", action="compute the target gradients first")
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata()
        header = json.loads(metadata["header"])
        sums = tuple(
            tuple(
                (content.get_tensor(f"{checkpoint}/{name}/A"), content.get_tensor(f"{checkpoint}/{name}/B"))
                for name in header["names"]
            )
            for checkpoint in range(header["checkpoints"])
        )
    groups = tuple(
        TargetGroup(
            observation_date=date.fromisoformat(day),
            observation_at=datetime.fromisoformat(moment),
            label=label,
            half=half,
            count=count,
        )
        for day, moment, label, half, count in header["groups"]
    )
    return TargetGradients(
        fingerprint=metadata["fingerprint"],
        target_ids=tuple(header["targets"]),
        names=tuple(header["names"]),
        groups=groups,
        sums=sums,
    )


@dataclass(frozen=True, kw_only=True)
class CheckpointDiagnostics:
    """How trustworthy the targets' mean gradient is at one checkpoint.

    Attributes:
        checkpoint: its name.
        class_cosine: cosine of the mean gradients of bad and good targets. Near -1, the mean over both is only their
            imbalance. None where a class is absent.
        half_cosine: cosine of the mean gradients of two random halves. Near 0, the mean is noise. None where a half
            is empty.
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


def _cosine_of_two(matrices: Matrices, side: Sequence[int]) -> float | None:
    if set(side) != {0, 1}:
        return None
    flat = torch.cat([tensor.flatten(1) for pair in matrices for tensor in pair], dim=1)
    chosen = torch.tensor(side, dtype=torch.bool)
    first, second = flat[~chosen].sum(0), flat[chosen].sum(0)
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))
