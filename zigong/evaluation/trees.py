"""Answers over token trees: the prompts of one owner, each followed by every choice, in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from zigong.evaluation.scored import Scored
from zigong.tokens.batches import TreeBatch, branch_outputs, tree_batch, tree_states
from zigong.tokens.samples import Indices, TokenIds, token_budget_batches
from zigong.tokens.tree import Tree, families, prompt_tree


def score_trees(
    model: PreTrainedModel,
    owners: Sequence[str],
    prompts: Sequence[TokenIds],
    choices: Sequence[Sequence[int]],
    scored: Scored,
    *,
    batch_tokens: int,
) -> None:
    """Fills in what each prompt scores.

    Args:
        model: a causal language model in evaluation mode.
        owners: [N] owner of each prompt; a tree contains the prompts of one owner.
        prompts: [N] token ids, at least one each.
        choices: [C] token ids of each choice, at least one each.
        scored: N prompts to fill in.
        batch_tokens: padded tokens of one forward pass; a larger tree is a separate batch.
    """
    answers = [np.asarray(choice, dtype=np.int32) for choice in choices]
    trees = [_tree_of_choices(prompts, members, answers) for members in families(owners, prompts)]
    for batch in token_budget_batches([len(tree) for _, tree in trees], batch_tokens):
        members = np.concatenate([trees[index][0] for index in batch])
        found = tree_batch([trees[index][1] for index in batch]).to(model.device)
        likelihoods, first, states = _likelihoods(model, found)
        scores = likelihoods.view(len(members), len(answers)).cpu().numpy()
        scored.put(members, scores, first[:: len(answers)].cpu().numpy(), states[:: len(answers)])


def _tree_of_choices(prompts: Sequence[TokenIds], members: Indices, answers: Sequence[TokenIds]) -> Tree:
    """A tree whose samples are ordered by prompt, then by choice."""
    pairs = [(prompts[index], answer) for index in members for answer in answers]
    return members, prompt_tree([prompt for prompt, _ in pairs], [answer for _, answer in pairs])


@torch.inference_mode()
def _likelihoods(model: PreTrainedModel, batch: TreeBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Summed log-likelihood of each sample's answer, greedy token and state [H] after its prompt: [samples] each."""
    hidden, logits = branch_outputs(model, batch, tree_states(model, batch))
    logs = logits.double().log_softmax(-1)
    of_labels = logs.gather(1, batch.label_targets[:, None])[:, 0]
    totals = of_labels.new_zeros(batch.samples).index_add(0, batch.label_samples, of_labels)
    firsts = torch.searchsorted(batch.label_samples, torch.arange(batch.samples, device=logs.device))
    return totals, logits[firsts].argmax(-1), hidden[firsts]
