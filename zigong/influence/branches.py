"""Scores samples of many users by forward mode over their token trees, each sample along its own vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zigong.influence.capture import OpenAgent, use_checkpoint
from zigong.influence.decay import sample_weight
from zigong.influence.decoder import ForwardMode, layer_weights
from zigong.influence.factorised import Matrices, on_device
from zigong.influence.forward import branch_derivatives
from zigong.influence.targets import TargetGradients, folded_vector
from zigong.recipe import Influence
from zigong.tokens.blocks import tree_blocks
from zigong.tokens.samples import Indices, Samples
from zigong.tokens.tree import Tree, user_trees

Floats = npt.NDArray[np.float64]


def tree_parts(
    agent: OpenAgent,
    targets: TargetGradients,
    samples: Samples,
    first_dates: Indices,
    checkpoints: tuple[int, ...],
    settings: Influence,
) -> tuple[Floats, Floats]:
    """Contributions [N, k] of the checkpoints to the scores of samples of one split, and losses [N] at the last one.

    Args:
        agent: the opened agent.
        targets: gradients of the targets.
        samples: trainable samples of any users.
        first_dates: [N] index of each sample's first eligible test date.
        checkpoints: indices of the participating checkpoints; other columns are 0.
        settings: recipe section ``influence``.
    """
    parts, losses = np.zeros((len(samples), len(agent.adapters))), np.zeros(len(samples))
    trees = user_trees(samples, splits=["train"] * len(samples))
    firsts, chosen = np.unique(first_dates, return_inverse=True)
    for checkpoint in checkpoints:
        use_checkpoint(agent, checkpoint)
        vectors = [
            on_device(
                folded_vector(targets, agent.manifest, settings, first_date=int(first), checkpoint=checkpoint),
                agent.model.device,
            )
            for first in firsts
        ]
        parts[:, checkpoint], losses = branch_products(
            agent.forward_mode, trees, vectors, chosen, batch_tokens=settings.batch_tokens
        )
    weights = [
        sample_weight(day, targets.dates[first], agent.manifest, settings)
        for day, first in zip(samples.observation_date, first_dates, strict=True)
    ]
    return parts * np.array(weights)[:, None], losses


def branch_products(
    opened: ForwardMode, trees: Sequence[Tree], vectors: Sequence[Matrices], chosen: Indices, *, batch_tokens: int
) -> tuple[Floats, Floats]:
    """<gradient of each sample's loss, its vector> at the weights in use [N], and the losses [N].

    Computes the same as :class:`zigong.influence.sinks.Contraction`: the product with one vector per checkpoint and
    bucket of maturity. Branches of one tree may be in different buckets; the pass then computes one derivative per
    bucket over the shared tokens, each additional one at half the cost of the first.

    Args:
        opened: the decoder, with the checkpoint's weights in use.
        trees: of N samples in all; indices run over ``chosen``.
        vectors: vectors of all buckets.
        chosen: [N] index of the vector of each sample.
        batch_tokens: largest number of tokens of one pass.
    """
    products, losses = np.zeros(len(chosen)), np.zeros(len(chosen))
    grouped: dict[tuple[int, ...], list[Tree]] = {}
    for members, tree in trees:
        grouped.setdefault(tuple(np.unique(chosen[members]).tolist()), []).append((members, tree))
    for needed, group in grouped.items():
        weights = layer_weights(opened, [vectors[index] for index in needed])
        for batch in tree_batches(group, batch_tokens):
            members = np.concatenate([part for part, _ in batch])
            blocks = tree_blocks([tree for _, tree in batch], window=opened.window).to(opened.model.device)
            values, derivatives = branch_derivatives(opened, weights, blocks, vectors=len(needed))
            losses[members] = values.cpu().numpy()
            along = derivatives.cpu().numpy()
            products[members] = along[np.searchsorted(needed, chosen[members]), np.arange(len(members))]
    return products, losses


def tree_batches(trees: Sequence[Tree], budget: int) -> list[list[Tree]]:
    """Divides trees into batches of at most ``budget`` tokens; a larger tree is a separate batch.

    Trees are grouped by size of trunk, then of branches, since blocks are padded to the largest.
    """
    batches: list[list[Tree]] = []
    room = 0
    for members, tree in sorted(trees, key=_shape):
        if len(tree) > room:
            batches.append([])
            room = budget
        batches[-1].append((members, tree))
        room -= len(tree)
    return batches


def _shape(item: Tree) -> tuple[int, int, int]:
    members, tree = item
    return tree.trunk, int(tree.branch_sizes.max(initial=0)), int(members[0])
