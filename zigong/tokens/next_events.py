"""The loss of the prompts' own tokens, each predicted from those before it: an auxiliary loss of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from zigong.tokens.samples import LabelledBatch
from zigong.tokens.tree import TokenTree


@dataclass(frozen=True, kw_only=True, eq=False)
class NextTokens:
    """The K predicted prompt tokens of a batch.

    The weights of a sample's tokens sum to 1, so that the loss of a sample is the mean over its prompt. A token that
    several samples of a tree share occurs once, with the sum of its weights.

    Attributes:
        rows: [K] row of the batch.
        positions: [K] position in the row whose hidden state predicts the token.
        targets: [K] token ids.
        weights: [K].
    """

    rows: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(**{name: value.to(device) for name, value in vars(self).items()})

    def summed_loss(self, model: PreTrainedModel, hidden: Tensor) -> Tensor:
        """Sum over samples of the mean loss of their prompt tokens.

        Args:
            model: the model, whose head is applied.
            hidden: [rows, positions, H] last hidden states of the batch.
        """
        logits = model.get_output_embeddings()(hidden[self.rows, self.positions]).float()
        return (cross_entropy(logits, self.targets, reduction="none") * self.weights.to(logits)).sum()


def next_tokens_of_batch(batch: LabelledBatch) -> NextTokens:
    """All prompt tokens of a batch of samples but the first of each, which nothing predicts."""
    firsts = torch.searchsorted(batch.label_rows, torch.arange(len(batch), device=batch.label_rows.device))
    predicted = batch.label_positions[firsts]  # [N] prompt tokens after the first
    places = torch.arange(batch.input_ids.shape[1] - 1, device=predicted.device)
    rows, positions = torch.nonzero(places[None] < predicted[:, None], as_tuple=True)
    return NextTokens(
        rows=rows,
        positions=positions,
        targets=batch.input_ids[rows, positions + 1],
        weights=1 / predicted[rows],
    )


def next_tokens_of_trees(trees: Sequence[TokenTree]) -> NextTokens:
    """All prompt tokens of a batch of trees but the first ones; ``rows`` are the trees in their order."""
    weights = [_prompt_weights(tree) for tree in trees]
    chosen = [np.flatnonzero(of_tree) for of_tree in weights]
    parts = list(zip(trees, weights, chosen, strict=True))
    return NextTokens(
        rows=torch.from_numpy(np.repeat(np.arange(len(trees)), [len(one) for one in chosen])),
        positions=torch.from_numpy(np.concatenate([tree.parents[one] for tree, _, one in parts])),
        targets=torch.from_numpy(np.concatenate([tree.tokens[one] for tree, _, one in parts]).astype(np.int64)),
        weights=torch.from_numpy(np.concatenate([weight[one] for _, weight, one in parts])),
    )


def _prompt_weights(tree: TokenTree) -> npt.NDArray[np.float64]:
    """Sum over the samples whose prompt holds a token of 1 / (their prompt tokens after the first): [T]."""
    weights = np.zeros(len(tree))
    ends = tree.label_tokens[np.searchsorted(tree.label_samples, np.arange(tree.samples))]  # last tokens of prompts
    longer = ends[tree.positions[ends] > 0]
    np.add.at(weights, longer, 1 / tree.positions[longer])
    for token in range(len(tree) - 1, 0, -1):  # every token is after its parent
        if tree.parents[token] >= 0:
            weights[tree.parents[token]] += weights[token]
    weights[tree.parents < 0] = 0
    return weights
