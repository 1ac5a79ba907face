"""Computes what the rules know of a pool: scores, products with single targets, and pooled states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.selection_study.rules import Evidence
from zigong.influence.capture import OpenAgent, open_agent, sample_gradients, use_checkpoint
from zigong.influence.decay import target_weight
from zigong.recipe import Influence
from zigong.tokens.losses import hidden_states
from zigong.tokens.samples import (
    Indices,
    Samples,
    batch_of,
    sample_lengths,
    token_budget_batches,
    trainable,
)
from zigong.training.base import load_model
from zigong.training.checkpoints import read_checkpoints


def evidence_of(setting: StudySetting, pool: Samples, *, seed: int, name: str) -> Evidence:
    """Trains an agent on the pool and asks it and the base model about every sample.

    Args:
        setting: samples and settings.
        pool: the samples to choose from, with their labels as given.
        seed: seed of the agent.
        name: name of the agent's folder.
    """
    folder = setting.agent(pool, seed=seed, name=name)
    scores = setting.scores(pool, folder, setting.targets)
    agent = open_agent(setting.base, read_checkpoints(folder), torch_threads=setting.recipe.engine.torch_threads)
    products, own = gradient_products(agent, pool, setting.targets, setting.recipe.influence)
    states = pooled_states(setting.base, pool, budget=setting.recipe.influence.batch_tokens)
    of_targets = pooled_states(setting.base, setting.targets, budget=setting.recipe.influence.batch_tokens)
    return Evidence(
        label=pool.label,
        score=scores["score"].to_numpy(),
        loss=scores["loss"].to_numpy(),
        products=products,
        self_influence=own,
        likeness=(states @ of_targets.T).numpy(),
    )


def gradient_products(
    agent: OpenAgent, pool: Samples, targets: Samples, settings: Influence
) -> tuple[NDArray[np.float32], Floats]:
    """Influence of each sample on each single target, and on itself, summed over the checkpoints.

    Both are eta_i times a product of gradients; a target's also bears the decay of its date. Every pair counts,
    whatever ``influence.pairs`` says. All targets' gradients of one checkpoint are in memory.

    Returns:
        Products [N, M] and self-influence [N].
    """
    manifest = agent.manifest
    known, asked = (
        trainable(part, ends=agent.ends, count_eos=manifest.count_eos, context_length=manifest.context_length)
        for part in (pool, targets)
    )
    products, own = np.zeros((len(known), len(asked)), dtype=np.float32), np.zeros(len(known))
    for number, checkpoint in enumerate(manifest.checkpoints):
        use_checkpoint(agent, number)
        weights = torch.tensor([target_weight(day, number, manifest, settings) for day in asked.observation_date])
        of_targets = torch.zeros(len(asked), sum(a.numel() + b.numel() for a, b in agent.adapters[number]))
        for indices, found in _gradients(agent, asked, settings):
            of_targets[indices] = found * weights[indices][:, None]
        for indices, found in _gradients(agent, known, settings):
            products[indices] += (found @ of_targets.T).numpy()
            own[indices] += checkpoint.eta * found.square().sum(1).double().numpy()
    return products, own


def pooled_states(base: Path, samples: Samples, *, budget: int) -> Tensor:
    """Mean of the base model's last hidden states of each sample, later tokens weighing more, of unit length: [N, H].

    The weight of the k-th token is proportional to k (RDS+, 2503.01807); prompt and completion count.
    """
    model = load_model(base)
    states = torch.zeros(len(samples), int(model.config.hidden_size))
    with torch.inference_mode():
        for indices in token_budget_batches(sample_lengths(samples), budget):
            batch = batch_of(samples, indices)
            places = batch.attention_mask.cumsum(1) * batch.attention_mask
            weights = places / places.sum(1, keepdim=True)
            states[indices] = torch.einsum("nsh,ns->nh", hidden_states(model, batch), weights)
    return normalize(states, dim=1)


def _gradients(agent: OpenAgent, samples: Samples, settings: Influence) -> Iterator[tuple[Indices, Tensor]]:
    """Indices of a batch, and the gradient of each of its samples as one row."""
    for indices in token_budget_batches(sample_lengths(samples), settings.batch_tokens):
        matrices = sample_gradients(agent, batch_of(samples, indices))
        yield indices, torch.cat([part.flatten(1) for pair in matrices for part in pair], dim=1)
