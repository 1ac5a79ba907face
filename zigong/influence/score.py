"""TracSeq scores of training samples (Pruthi 2020's TracInCP with time decay).

    TracSeq(z_t; z'_T) = sum_i gamma^(T - t_i) * eta_i * < grad l(w_i, z_t), grad l(w_i, z'_T) >

A score is the MEAN over the eligible tests z'. T - t_i counts periods: the calendar months between the test's
observation date and the last one of checkpoint i, divided by the months of a period (``CheckpointManifest``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zigong.errors import DataError
from zigong.influence.branches import tree_parts
from zigong.influence.capture import OpenAgent, pass_through, use_checkpoint
from zigong.influence.decay import Bucket, bucket_of, sample_weight, target_weight
from zigong.influence.factorised import Matrices, on_device
from zigong.influence.sinks import Contraction, Matched
from zigong.influence.targets import TargetGradients, folded_vector, target_fingerprint, weighted_sums
from zigong.recipe import Influence
from zigong.tokens.samples import (
    LENGTH_STEP,
    Indices,
    LabelledBatch,
    Samples,
    batch_of,
    length_class_batches,
    sample_lengths,
    token_budget_batches,
    trainable,
)

Floats = npt.NDArray[np.float64]
Parts = npt.NDArray[np.float64]  # [N, k]
K = TypeVar("K")
Divided = Callable[[Samples], Iterator[tuple[Indices, LabelledBatch]]]

SCORES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("score", pa.float64()),
        ("parts", pa.list_(pa.float64())),
        ("loss", pa.float64()),
        ("tokens", pa.int32()),
        ("scope", pa.string()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class _Tests:
    """The tests that samples are scored against: those of one user, or (None) of the population."""

    user_id: str | None
    bucket: Bucket


def score_samples(
    agent: OpenAgent, targets: TargetGradients, samples: Samples, settings: Influence, *, by_length_class: bool = False
) -> pa.Table:
    """Scores training samples against the targets.

    Every batch is read once and processed with all adapters. Against the population, a batch holds samples of one
    bucket, so that one vector per checkpoint suffices; against their own users' tests, every sample of a batch has its
    own vector. With ``engine: trees`` the samples of a user are scored together by forward mode over their token tree;
    the scores agree to 1e-5.

    Args:
        agent: the opened agent.
        targets: gradients of the targets at the same checkpoints, computed with the same settings.
        samples: training samples.
        settings: recipe section ``influence``.
        by_length_class: pad every sample to the width of its length class, which costs a few per cent: then, on CPUs
            with the same ``torch_threads``, a sample's bits do not depend on the samples that are scored with it.
            Ignored with ``engine: trees``, where the bits depend on all samples.

    Returns:
        One row per sample, in their order: sample_id, score, parts (contribution of each checkpoint, whose sum is the
        score; 0 for those that ``checkpoints: own`` excludes), loss (at the last participating checkpoint), tokens
        (of prompt and answer), scope, reason. Without an eligible test or checkpoint, score and loss are null, parts is
        empty and reason explains why.

    Raises:
        DataError: a sample is too long or has no token in the loss, an age is negative, or a score is not finite.
    """
    manifest = agent.manifest
    if targets.fingerprint != target_fingerprint(manifest, targets.target_ids, settings):
        raise DataError(
            "target gradients belong to another agent or other settings", action="compute them with this recipe"
        )
    known = trainable(samples, ends=agent.ends, count_eos=manifest.count_eos, context_length=manifest.context_length)
    tests = [_tests_of(known, index, targets, agent, settings) for index in range(len(known))]
    parts, losses = np.zeros((len(known), len(agent.adapters))), np.full(len(known), np.nan)
    divided = partial(_batches, settings=settings, by_length_class=by_length_class)
    if settings.engine == "trees":
        for checkpoints, indices in _by(tests, lambda bucket: bucket.checkpoints, own=False).items():
            firsts = np.array([item.bucket.first_date for i in indices if isinstance(item := tests[i], _Tests)])
            parts[indices], losses[indices] = tree_parts(
                agent, targets, known.take(indices), firsts, checkpoints, settings
            )
    else:
        for bucket, indices in _by(tests, lambda bucket: bucket, own=False).items():
            parts[indices], losses[indices] = _bucket_parts(
                agent, targets, known.take(indices), bucket, settings, divided
            )
    for checkpoints, indices in _by(tests, lambda bucket: bucket.checkpoints, own=True).items():
        own = {number: item for number, index in enumerate(indices) if isinstance(item := tests[index], _Tests)}
        parts[indices], losses[indices] = _user_parts(
            agent, targets, known.take(indices), own, checkpoints, settings, divided
        )
    _require_finite(known, parts, losses, tests)
    return _scores(known, parts, losses, tests)


def _tests_of(
    samples: Samples, index: int, targets: TargetGradients, agent: OpenAgent, settings: Influence
) -> _Tests | str:
    """The tests that a sample is scored against, or the reason why there are none."""
    day, matured_at = samples.observation_date[index], samples.matured_at[index]
    user_id = samples.user_id[index]
    if settings.scope == "user" and (moments := targets.moments_of(user_id)):
        bucket = bucket_of(day, matured_at, moments, agent.manifest, settings)
        if isinstance(bucket, Bucket):
            return _Tests(user_id=user_id, bucket=bucket)
    bucket = bucket_of(day, matured_at, targets.moments, agent.manifest, settings)
    return bucket if isinstance(bucket, str) else _Tests(user_id=None, bucket=bucket)


def _by(tests: list[_Tests | str], key: Callable[[Bucket], K], *, own: bool) -> Mapping[K, list[int]]:
    """Groups the samples that are scored against their own users' tests, or those scored against the population."""
    members: defaultdict[K, list[int]] = defaultdict(list)
    for index, item in enumerate(tests):
        if isinstance(item, _Tests) and (item.user_id is not None) == own:
            members[key(item.bucket)].append(index)
    return members


def _batches(
    samples: Samples, *, settings: Influence, by_length_class: bool
) -> Iterator[tuple[Indices, LabelledBatch]]:
    divide = length_class_batches if by_length_class else token_budget_batches
    for indices in divide(sample_lengths(samples), settings.batch_tokens):
        yield indices, batch_of(samples, indices, length_step=LENGTH_STEP if by_length_class else 1)


def _products(
    agent: OpenAgent, batch: LabelledBatch, vectors: Matrices, settings: Influence, *, shared: bool
) -> tuple[Floats, Floats]:
    """Products [N] with each sample's own or a shared vector, divided by norms for cosines, and losses [N]."""
    if shared and settings.normalise == "dot":
        contraction = Contraction(len(batch), tuple((a[0], b[0]) for a, b in vectors))
        losses = pass_through(agent, batch, contraction)
        return contraction.products.cpu().numpy(), losses.double().cpu().numpy()
    matched = Matched(len(batch), vectors, device=agent.model.device, norms=settings.normalise == "cosine")
    losses = pass_through(agent, batch, matched)
    return matched.scaled[:, 0].cpu().numpy(), losses.double().cpu().numpy()


def _bucket_parts(
    agent: OpenAgent,
    targets: TargetGradients,
    samples: Samples,
    bucket: Bucket,
    settings: Influence,
    divided: Divided,
) -> tuple[Parts, Floats]:
    """Contributions [N, k] and losses [N] of samples with the same eligible tests and checkpoints."""
    manifest, first_target = agent.manifest, targets.dates[bucket.first_date]
    vectors: dict[int, Matrices] = {
        checkpoint: tuple(
            (a[None], b[None])
            for a, b in on_device(
                folded_vector(targets, manifest, settings, first_date=bucket.first_date, checkpoint=checkpoint),
                agent.model.device,
            )
        )
        for checkpoint in bucket.checkpoints
    }
    parts, losses = np.zeros((len(samples), len(agent.adapters))), np.zeros(len(samples))
    for indices, batch in divided(samples):
        for checkpoint, vector in vectors.items():
            use_checkpoint(agent, checkpoint)
            parts[indices, checkpoint], losses[indices] = _products(agent, batch, vector, settings, shared=True)
    weights = [sample_weight(day, first_target, manifest, settings) for day in samples.observation_date]
    return parts * np.array(weights)[:, None], losses


def _user_parts(
    agent: OpenAgent,
    targets: TargetGradients,
    samples: Samples,
    tests: Mapping[int, _Tests],
    checkpoints: tuple[int, ...],
    settings: Influence,
    divided: Divided,
) -> tuple[Parts, Floats]:
    """Contributions [N, k] and losses [N] of samples that are scored against their own users' tests."""
    parts, losses = np.zeros((len(samples), len(agent.adapters))), np.zeros(len(samples))
    for indices, batch in divided(samples):
        eligible = [targets.groups_of(samples.user_id[i], tests[int(i)].bucket.first_date) for i in indices]
        days = [samples.observation_date[i] for i in indices]
        for checkpoint in checkpoints:
            use_checkpoint(agent, checkpoint)
            weights = [
                _weights(targets, groups, day, checkpoint, agent, settings)
                for groups, day in zip(eligible, days, strict=True)
            ]
            vectors = weighted_sums(targets, checkpoint, eligible, weights)
            parts[indices, checkpoint], losses[indices] = _products(agent, batch, vectors, settings, shared=False)
    return parts, losses


def _weights(
    targets: TargetGradients, groups: list[int], day: date, checkpoint: int, agent: OpenAgent, settings: Influence
) -> list[float]:
    """Weights of the sums of a sample's eligible groups: decay times eta, divided by the number of tests."""
    chosen = [targets.groups[group] for group in groups]
    count = sum(group.count for group in chosen)
    first = min(group.observation_date for group in chosen)
    of_sample = sample_weight(day, first, agent.manifest, settings)
    return [
        target_weight(group.observation_date, checkpoint, agent.manifest, settings) * of_sample / count
        for group in chosen
    ]


def _require_finite(samples: Samples, parts: Parts, losses: Floats, tests: list[_Tests | str]) -> None:
    scored = np.array([isinstance(item, _Tests) for item in tests])
    wrong: Indices = np.flatnonzero(~(np.isfinite(parts).all(axis=1) & (np.isfinite(losses) | ~scored)))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} scores are not finite, first sample {samples.sample_id[wrong[0]]}",
            action="lower agent.learning_rate: the agent diverged",
        )


def _scores(samples: Samples, parts: Parts, losses: Floats, tests: list[_Tests | str]) -> pa.Table:
    reasons = [item if isinstance(item, str) else None for item in tests]
    own = [isinstance(item, _Tests) and item.user_id is not None for item in tests]
    columns = {
        "sample_id": list(samples.sample_id),
        "score": [None if reason else float(row.sum()) for row, reason in zip(parts, reasons, strict=True)],
        "parts": [[] if reason else row.tolist() for row, reason in zip(parts, reasons, strict=True)],
        "loss": [None if reason else float(loss) for loss, reason in zip(losses, reasons, strict=True)],
        "tokens": sample_lengths(samples),
        "scope": ["user" if its_user else "population" for its_user in own],
        "reason": reasons,
    }
    return pa.table(columns, schema=SCORES)
