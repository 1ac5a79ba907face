"""Answers of a model: the probability of bad, the likeliest choice, and whether the model would generate neither."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from zigong.errors import ConfigError, DataError
from zigong.evaluation.trees import answered_trees
from zigong.tokens.losses import label_logits
from zigong.tokens.samples import Indices, TokenIds, labelled_batch, token_budget_batches
from zigong.training.adapters import load_adapted

ANSWERS = pa.schema([("sample_id", pa.string()), ("p_bad", pa.float64()), ("answer", pa.int32()), ("miss", pa.bool_())])


def answer_samples(
    base_folder: Path,
    adapter_folder: Path,
    sample_ids: Sequence[str],
    input_ids: Sequence[TokenIds],
    choice_ids: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    torch_threads: int,
    digest: str | None = None,
    owners: Sequence[str] | None = None,
) -> pa.Table:
    """Loads a model with its adapter and answers; see :func:`answer_prompts`.

    Raises:
        ConfigError: a file is missing or pickled, or the choices are not usable.
        DataError: the adapter does not have the digest ``digest``, or a prompt is empty.
    """
    model = load_adapted(base_folder, adapter_folder, digest=digest).get_base_model()
    torch.set_num_threads(torch_threads)
    return answer_prompts(model, sample_ids, input_ids, choice_ids, batch_tokens=batch_tokens, owners=owners)


def answer_prompts(
    model: PreTrainedModel,
    sample_ids: Sequence[str],
    input_ids: Sequence[TokenIds],
    choice_ids: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    owners: Sequence[str] | None = None,
) -> pa.Table:
    """Answers prompts; labels are not an input.

    Args:
        model: a causal language model in evaluation mode.
        sample_ids: [N] keys.
        input_ids: [N] token ids of the prompts.
        choice_ids: token ids of each choice, the bad one first.
        batch_tokens: padded tokens of one forward pass.
        owners: [N] owner of each prompt: the prompts of one owner, each followed by all choices, share the computation
            of their common prefixes. None: every prompt is computed separately.

    Returns:
        One row per sample, in the order of the samples: sample_id; p_bad, the softmax over the total log-likelihoods of
        the choices, at the bad one; answer, the index of the likeliest choice; miss, whether the greedy next token
        begins none of the choices.

    Raises:
        ConfigError: there are fewer than two choices, two are equal, or one is empty.
        DataError: a prompt is empty.
    """
    choices = [tuple(int(token) for token in choice) for choice in choice_ids]
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(choices):
        raise ConfigError(
            f"choices must be two or more different token sequences, found {choices}", action="edit the template"
        )
    empty = [key for key, ids in zip(sample_ids, input_ids, strict=True) if not len(ids)]
    if empty:
        raise DataError(f"{len(empty)} prompts have no tokens, first {empty[0]}", action="quarantine them")
    if owners is None:
        scores, greedy = _scored_separately(model, input_ids, choices, batch_tokens)
    else:
        scores, greedy = answered_trees(model, owners, input_ids, choices, batch_tokens=batch_tokens)
    p_bad = np.exp(scores[:, 0] - np.logaddexp.reduce(scores, axis=1))
    miss = ~np.isin(greedy, [choice[0] for choice in choices])
    columns = {"sample_id": list(sample_ids), "p_bad": p_bad, "answer": scores.argmax(axis=1), "miss": miss}
    return pa.table(columns, schema=ANSWERS)


def _scored_separately(
    model: PreTrainedModel, input_ids: Sequence[TokenIds], choices: Sequence[tuple[int, ...]], batch_tokens: int
) -> tuple[npt.NDArray[np.float64], Indices]:
    """Log-likelihood of each choice [N, C], and the greedy first token [N]."""
    scores = np.zeros((len(input_ids), len(choices)))
    greedy = np.zeros(len(input_ids), dtype=np.int64)
    sizes = np.array([len(ids) for ids in input_ids], dtype=np.int64)
    for indices in token_budget_batches(sizes + max(map(len, choices)), batch_tokens):
        prompts = [input_ids[i] for i in indices]
        scores[indices], greedy[indices] = _choice_scores(model, prompts, choices)
    return scores, greedy


@torch.inference_mode()
def _choice_scores(
    model: PreTrainedModel, prompts: list[TokenIds], choices: Sequence[tuple[int, ...]]
) -> tuple[npt.NDArray[np.float64], Indices]:
    """Log-likelihood of each choice [N, C], and the greedy first token [N].

    Choices that differ only in their last token share a forward pass, so choices of one token need only one.
    """
    stems: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, choice in enumerate(choices):
        stems[choice[:-1]].append(index)
    scores = np.zeros((len(prompts), len(choices)))
    greedy = np.zeros(len(prompts), dtype=np.int64)
    for stem, indices in stems.items():
        logits = _logits_after(model, prompts, stem)
        logs = logits.double().log_softmax(-1)
        path = logs[:, torch.arange(len(stem)), list(stem)].sum(1)
        for index in indices:
            scores[:, index] = (path + logs[:, len(stem), choices[index][-1]]).numpy()
        greedy = logits[:, 0].argmax(-1).numpy()
    return scores, greedy


def _logits_after(model: PreTrainedModel, prompts: list[TokenIds], stem: tuple[int, ...]) -> Tensor:
    """Logits [N, len(stem) + 1, V] after each prompt and after each token of the stem that follows it."""
    # The last label is a placeholder: only the logits at its position, after the complete stem, are read.
    labels = np.array([*stem, 0], dtype=np.int32)
    logits = label_logits(model, labelled_batch(prompts, [labels] * len(prompts)))
    return logits.view(len(prompts), len(labels), -1)
