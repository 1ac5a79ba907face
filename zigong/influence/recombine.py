"""Recomputes scores for other decays, gammas and checkpoint settings from stored parts, without new gradients.

A part of checkpoint i is gamma^(T - t_i) eta_i times the mean over tests of the gradients' products. With ONE target
date T the factor is outside the mean, so it can be replaced by another one: any gamma, decay and checkpoint setting
follows exactly. With several target dates a mean over different powers of gamma cannot be separated: only
``checkpoints: own`` follows from ``all``, with the same decay and gamma. Nothing else follows from ``own``, and pairs,
scope, normalisation and preconditioner cannot be changed afterwards, since they need new gradients.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

from zigong.errors import ConfigError
from zigong.influence.decay import sample_weight, target_weight
from zigong.recipe import Influence
from zigong.training.checkpoints import CheckpointManifest

Floats = npt.NDArray[np.float64]
FREE = {"gamma", "decay", "checkpoints"}
PASSES = {"engine", "batch_tokens", "gradient_checkpointing"}


def recombinable(made: Influence, wanted: Influence, target_dates: Sequence[date]) -> bool:
    """Whether parts computed with settings ``made`` determine the scores of ``wanted``; see the module docstring."""
    fixed = set(Influence.model_fields) - FREE - PASSES
    if any(getattr(made, name) != getattr(wanted, name) for name in fixed):
        return False
    same_decay = (made.decay, made.gamma) == (wanted.decay, wanted.gamma)
    if same_decay and made.checkpoints == wanted.checkpoints:
        return True
    if made.checkpoints == "own":
        return False
    own_keeps_weights = wanted.checkpoints == "all" or made.decay != "sample"
    return len(target_dates) == 1 or (same_decay and own_keeps_weights)


def recombined(
    parts: Floats,
    dates: Sequence[date],
    *,
    made: Influence,
    wanted: Influence,
    target_dates: Sequence[date],
    manifest: CheckpointManifest,
) -> Floats:
    """Parts [N, k] under the settings ``wanted``; rows without their own checkpoint are NaN.

    Args:
        parts: [N, k] as stored; every row has been scored.
        dates: observation dates of the samples.
        made: settings of the stored parts.
        wanted: settings of the returned parts.
        target_dates: observation dates of the targets.
        manifest: manifest of the agent.

    Raises:
        ConfigError: ``wanted`` cannot be computed from the stored parts.
    """
    if not recombinable(made, wanted, target_dates):
        raise ConfigError(
            f"parts computed with {made.decay}/{made.gamma}/{made.checkpoints} for {len(target_dates)} target dates "
            f"do not determine {wanted.decay}/{wanted.gamma}/{wanted.checkpoints}",
            action="score again with these settings",
        )
    found = parts
    if len(target_dates) == 1:
        found = parts / _weights(dates, target_dates[0], manifest, made)
        found = found * _weights(dates, target_dates[0], manifest, wanted)
    if (wanted.checkpoints, made.checkpoints) != ("own", "all"):
        return found
    ends = [item.last_observation_date for item in manifest.checkpoints]
    own = np.array([bisect_left(ends, day) - 1 for day in dates])
    kept = np.where(np.arange(len(ends)) == own[:, None], found, 0.0)
    kept[own < 0] = np.nan
    return kept


def _weights(dates: Sequence[date], target: date, manifest: CheckpointManifest, settings: Influence) -> Floats:
    """gamma^(age) eta_i for every sample and checkpoint: [N, k]."""
    of_tests = [target_weight(target, number, manifest, settings) for number in range(len(manifest.checkpoints))]
    of_samples = {day: sample_weight(day, target, manifest, settings) for day in set(dates)}
    return np.outer([of_samples[day] for day in dates], of_tests)
