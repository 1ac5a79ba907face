"""Answers over token trees: the prompts of one owner, each followed by every choice, in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from zigong.tokens.batches import TreeBatch, branch_logits, tree_batch
from zigong.tokens.samples import Indices, TokenIds, token_budget_batches
from zigong.tokens.tree import Tree, families, prompt_tree


def answered_trees(
    model: PreTrainedModel,
    owners: Sequence[str],
    prompts: Sequence[TokenIds],
    choices: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
) -> tuple[npt.NDArray[np.float64], Indices]:
    """Log-likelihood of each choice [N, C], and the greedy first token [N].

    Args:
        model: a causal language model in evaluation mode.
        owners: [N] owner of each prompt; a tree contains the prompts of one owner.
        prompts: [N] token ids, at least one each.
        choices: [C] token ids of each choice, at least one each.
        batch_tokens: padded tokens of one forward pass; a larger tree is a separate batch.
    """
    answers = [np.asarray(choice, dtype=np.int32) for choice in choices]
    trees = [_tree_of_choices(prompts, members, answers) for members in families(owners, prompts)]
    scores = np.zeros((len(prompts), len(answers)))
    greedy = np.zeros(len(prompts), dtype=np.int64)
    for batch in token_budget_batches([len(tree) for _, tree in trees], batch_tokens):
        members = np.concatenate([trees[index][0] for index in batch])
        found = tree_batch([trees[index][1] for index in batch])
        likelihoods, first = _likelihoods(model, found)
        scores[members] = likelihoods.view(len(members), len(answers)).numpy()
        greedy[members] = first.view(len(members), len(answers))[:, 0].numpy()
    return scores, greedy


def _tree_of_choices(prompts: Sequence[TokenIds], members: Indices, answers: Sequence[TokenIds]) -> Tree:
    """A tree whose samples are ordered by prompt, then by choice."""
    pairs = [(prompts[index], answer) for index in members for answer in answers]
    return members, prompt_tree([prompt for prompt, _ in pairs], [answer for _, answer in pairs])


@torch.inference_mode()
def _likelihoods(model: PreTrainedModel, batch: TreeBatch) -> tuple[Tensor, Tensor]:
    """Summed log-likelihood of each sample's answer, and the greedy token after its prompt: [samples] each."""
    logits = branch_logits(model, batch)
    logs = logits.double().log_softmax(-1)
    of_labels = logs[torch.arange(len(logs)), batch.label_targets]
    totals = of_labels.new_zeros(batch.samples).index_add(0, batch.label_samples, of_labels)
    firsts = torch.searchsorted(batch.label_samples, torch.arange(batch.samples))
    return totals, logits[firsts].argmax(-1)
