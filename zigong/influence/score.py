"""TracSeq scores of training samples (Pruthi 2020's TracInCP with time decay).

    TracSeq(z_t; z'_T) = sum_i gamma^(T - t_i) * eta_i * < grad l(w_i, z_t), grad l(w_i, z'_T) >

A score is the MEAN over the eligible tests z'. T - t_i counts periods: the calendar months between the test's
observation date and the last one of checkpoint i, divided by the months of a period (``CheckpointManifest``).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zigong.errors import DataError
from zigong.influence.capture import Matrices, OpenAgent, contracted_gradients, use_checkpoint
from zigong.influence.decay import Bucket, bucket_of, sample_weight
from zigong.influence.targets import TargetGradients, folded_vector, target_fingerprint
from zigong.recipe import Influence
from zigong.training.samples import (
    LENGTH_STEP,
    Indices,
    Samples,
    batch_of,
    length_class_batches,
    sample_lengths,
    token_budget_batches,
    trainable,
)

Parts = npt.NDArray[np.float64]  # [N, k]

SCORES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("score", pa.float64()),
        ("parts", pa.list_(pa.float64())),
        ("scope", pa.string()),
        ("reason", pa.string()),
    ]
)


def score_samples(
    agent: OpenAgent, targets: TargetGradients, samples: Samples, settings: Influence, *, by_length_class: bool = False
) -> pa.Table:
    """Scores training samples against the targets.

    Every batch is read once and all adapters pass through it. Batches hold samples of one bucket, so that one vector
    per checkpoint serves them all.

    Args:
        agent: the opened agent.
        targets: gradients of the targets at the same checkpoints.
        samples: training samples.
        settings: recipe section ``influence``.
        by_length_class: pad every sample to a width of its own length class, which costs a few per cent: then, on CPUs
            with the same ``torch_threads``, a sample's bits do not depend on the samples that are scored with it.

    Returns:
        One row per sample, in their order: sample_id, score, parts (contribution of each checkpoint, whose sum is the
        score; 0 for those that ``checkpoints: own`` leaves out), scope, reason. Without an eligible test or checkpoint
        the score is null, parts is empty and reason says why.

    Raises:
        DataError: a sample is too long or bears no loss, an age is negative, or a score is not finite.
    """
    manifest = agent.manifest
    if targets.fingerprint != target_fingerprint(manifest, targets.target_ids):
        raise DataError("target gradients belong to another agent", action="compute them with this agent")
    known = trainable(
        samples, eos_id=agent.eos_id, count_eos=manifest.count_eos, context_length=manifest.context_length
    )
    reasons: list[str | None] = [None] * len(known)
    members: defaultdict[Bucket, list[int]] = defaultdict(list)
    for index, (day, matured_at) in enumerate(zip(known.observation_date, known.matured_at, strict=True)):
        bucket = bucket_of(day, matured_at, targets.moments, manifest, settings)
        if isinstance(bucket, Bucket):
            members[bucket].append(index)
        else:
            reasons[index] = bucket
    parts = np.zeros((len(known), len(manifest.checkpoints)))
    for bucket, indices in members.items():
        parts[indices] = _bucket_parts(
            agent, targets, known.take(indices), bucket, settings, by_length_class=by_length_class
        )
    _require_finite(known, parts)
    return _scores(known, parts, reasons)


def _bucket_parts(
    agent: OpenAgent,
    targets: TargetGradients,
    samples: Samples,
    bucket: Bucket,
    settings: Influence,
    *,
    by_length_class: bool,
) -> Parts:
    """Contributions [N, k] of samples that share their eligible tests and checkpoints."""
    manifest, first_target = agent.manifest, targets.dates[bucket.first_date]
    vectors: dict[int, Matrices] = {
        checkpoint: folded_vector(targets, manifest, settings, first_date=bucket.first_date, checkpoint=checkpoint)
        for checkpoint in bucket.checkpoints
    }
    parts = np.zeros((len(samples), len(manifest.checkpoints)))
    divide = length_class_batches if by_length_class else token_budget_batches
    for indices in divide(sample_lengths(samples), settings.batch_tokens):
        batch = batch_of(samples, indices, length_step=LENGTH_STEP if by_length_class else 1)
        for checkpoint, vector in vectors.items():
            use_checkpoint(agent, checkpoint)
            parts[indices, checkpoint] = contracted_gradients(agent, batch, vector).numpy()
    ages = np.array([sample_weight(day, first_target, manifest, settings) for day in samples.observation_date])
    scaled: Parts = parts * ages[:, None]
    return scaled


def _require_finite(samples: Samples, parts: Parts) -> None:
    wrong: Indices = np.flatnonzero(~np.isfinite(parts).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} scores are not finite, first sample {samples.sample_id[wrong[0]]}",
            action="lower agent.learning_rate: the agent diverged",
        )


def _scores(samples: Samples, parts: Parts, reasons: list[str | None]) -> pa.Table:
    columns = {
        "sample_id": list(samples.sample_id),
        "score": [None if reason else float(row.sum()) for row, reason in zip(parts, reasons, strict=True)],
        "parts": [[] if reason else row.tolist() for row, reason in zip(parts, reasons, strict=True)],
        "scope": ["population"] * len(samples),
        "reason": reasons,
    }
    return pa.table(columns, schema=SCORES)
