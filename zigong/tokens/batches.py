"""Batches of token trees for an unmodified model: padded ids, position ids, and one dense mask per tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from zigong.tokens.answer_head import AnswerHead
from zigong.tokens.losses import mean_answer_losses
from zigong.tokens.next_events import next_tokens_of_trees
from zigong.tokens.soft_answers import SoftAnswers
from zigong.tokens.tree import TokenTree, path_mask
from zigong.tokens.windows import windowed_masks


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeBatch:
    """B trees, padded on the right to the largest, and the M labels of their N samples.

    Attributes:
        input_ids: [B, T] int64.
        position_ids: [B, T] int64; they continue along each path.
        attention_mask: [B, 1, T, T] bool, True where the token of a row attends to that of a column, before any sliding
            window. A pad attends only to itself.
        label_trees: [M] tree of each label.
        label_tokens: [M] token within the tree whose hidden state predicts it.
        label_targets: [M] token ids.
        label_samples: [M] sample of each label, numbered across the trees in their order.
        samples: N.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    label_trees: Tensor
    label_tokens: Tensor
    label_targets: Tensor
    label_samples: Tensor
    samples: int

    def to(self, device: torch.device) -> Self:
        """The batch on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if name != "samples"}
        return type(self)(**tensors, samples=self.samples)


def tree_batch(trees: Sequence[TokenTree]) -> TreeBatch:
    """Pads trees into one batch."""
    size = max(len(tree) for tree in trees)
    input_ids = np.zeros((len(trees), size), dtype=np.int64)
    position_ids = np.zeros((len(trees), size), dtype=np.int64)
    mask = np.repeat(np.eye(size, dtype=bool)[None, None], len(trees), axis=0)
    for row, tree in enumerate(trees):
        input_ids[row, : len(tree)] = tree.tokens
        position_ids[row, : len(tree)] = tree.positions
        mask[row, 0, : len(tree), : len(tree)] = path_mask(tree)
    return TreeBatch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        attention_mask=torch.from_numpy(mask),
        label_trees=torch.from_numpy(np.repeat(np.arange(len(trees)), [len(tree.label_tokens) for tree in trees])),
        label_tokens=torch.from_numpy(np.concatenate([tree.label_tokens for tree in trees])),
        label_targets=torch.from_numpy(np.concatenate([tree.label_targets for tree in trees])),
        label_samples=torch.from_numpy(counted_samples(trees)),
        samples=sum(tree.samples for tree in trees),
    )


def counted_samples(trees: Sequence[TokenTree]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Sample of each label, numbered across all trees in their order: [M]."""
    firsts = np.cumsum([0, *(tree.samples for tree in trees)])
    return np.concatenate([tree.label_samples + first for tree, first in zip(trees, firsts, strict=False)])


def tree_states(model: PreTrainedModel, batch: TreeBatch) -> Tensor:
    """Last hidden states [B, T, H] of all tokens, for every model whose attention accepts a mask.

    Sliding windows count the tokens of a path, as they do in a separate sample.
    """
    backbone = model.base_model(
        input_ids=batch.input_ids,
        attention_mask=windowed_masks(model.config, batch.attention_mask, batch.position_ids),
        position_ids=batch.position_ids,
        use_cache=False,
    )
    hidden: Tensor = backbone.last_hidden_state
    return hidden


def branch_outputs(model: PreTrainedModel, batch: TreeBatch, states: Tensor) -> tuple[Tensor, Tensor]:
    """Last hidden states [M, H] and logits [M, V] at the tokens that predict the labels.

    Args:
        model: a causal language model.
        batch: trees.
        states: output of :func:`tree_states`.
    """
    hidden = states[batch.label_trees, batch.label_tokens]
    logits: Tensor = model.get_output_embeddings()(hidden)
    return hidden, logits.float()


def branch_losses(
    model: PreTrainedModel, batch: TreeBatch, soft: SoftAnswers | None = None, head: AnswerHead | None = None
) -> Tensor:
    """Mean loss of each sample over its label tokens: [N], differentiable.

    Losses and gradients equal those of :func:`zigong.tokens.losses.sample_losses` on the separate samples, since a
    shared token accumulates the gradients of all branches after it.

    Args:
        model: a causal language model.
        batch: trees with N samples.
        soft: a teacher's answers to them, in the order of trees and samples; None: only the hard labels count.
        head: what else determines their answers, in the same order; None: the language model alone.
    """
    return _answer_losses(model, batch, tree_states(model, batch), soft, head)


def summed_tree_losses(
    model: PreTrainedModel,
    trees: Sequence[TokenTree],
    soft: SoftAnswers | None,
    head: AnswerHead | None = None,
    *,
    next_event_weight: float,
) -> Tensor:
    """Equals :func:`zigong.tokens.losses.summed_losses` on the separate samples of the trees."""
    batch = tree_batch(trees).to(model.device)
    states = tree_states(model, batch)
    answers = _answer_losses(model, batch, states, soft, head).sum()
    return answers + next_event_weight * next_tokens_of_trees(trees).to(model.device).summed_loss(model, states)


def _answer_losses(
    model: PreTrainedModel, batch: TreeBatch, states: Tensor, soft: SoftAnswers | None, head: AnswerHead | None
) -> Tensor:
    hidden, logits = branch_outputs(model, batch, states)
    answers = logits if head is None else head.answered(logits, hidden, batch.label_samples)
    return mean_answer_losses(answers, batch.label_targets, batch.label_samples, batch.samples, soft)
