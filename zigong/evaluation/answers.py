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
from zigong.evaluation.scored import Scored, States
from zigong.evaluation.trees import score_trees
from zigong.tokens.losses import hidden_states, label_outputs
from zigong.tokens.samples import Indices, TokenIds, labelled_batch, token_budget_batches
from zigong.training.adapters import load_merged
from zigong.training.devices import device_here

ANSWERS = pa.schema([("sample_id", pa.string()), ("p_bad", pa.float64()), ("answer", pa.int32()), ("miss", pa.bool_())])
STATE = "state"


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
    states: bool = False,
) -> pa.Table:
    """Loads a model with its adapter and answers; see :func:`answer_prompts`.

    Raises:
        ConfigError: a file is missing or pickled, or the choices are not usable.
        DataError: the adapter does not have the digest ``digest``, or a prompt is empty.
    """
    model = load_merged(base_folder, adapter_folder, digest=digest).to(device_here())
    torch.set_num_threads(torch_threads)
    return answer_prompts(
        model, sample_ids, input_ids, choice_ids, batch_tokens=batch_tokens, owners=owners, states=states
    )


def answer_prompts(
    model: PreTrainedModel,
    sample_ids: Sequence[str],
    input_ids: Sequence[TokenIds],
    choice_ids: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    owners: Sequence[str] | None = None,
    states: bool = False,
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
        states: whether to return the last hidden states, too.

    Returns:
        One row per sample, in the order of the samples: sample_id; p_bad, the softmax over the total log-likelihoods of
        the choices, at the bad one; answer, the index of the likeliest choice; miss, whether the greedy next token
        begins none of the choices; with ``states`` also state, the last hidden state after the prompt.

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
    found = Scored.unscored(len(input_ids), len(choices), width=model.config.hidden_size if states else 0)
    if owners is None:
        _score_separately(model, input_ids, choices, found, batch_tokens)
    else:
        score_trees(model, owners, input_ids, choices, found, batch_tokens=batch_tokens)
    p_bad = np.exp(found.scores[:, 0] - np.logaddexp.reduce(found.scores, axis=1))
    miss = ~np.isin(found.greedy, [choice[0] for choice in choices])
    columns = {"sample_id": list(sample_ids), "p_bad": p_bad, "answer": found.scores.argmax(axis=1), "miss": miss}
    answers = pa.table(columns, schema=ANSWERS)
    return with_states(answers, found.states) if states else answers


def with_states(answers: pa.Table, states: States) -> pa.Table:
    """Answers with a column of states; shape [answers, width]."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(states.reshape(-1)), states.shape[1])
    return answers.append_column(STATE, column)


def without_states(answers: pa.Table) -> pa.Table:
    """Answers without the column that :func:`with_states` added, if they have it."""
    return answers.drop_columns([STATE]) if STATE in answers.column_names else answers


def states_of(answers: pa.Table) -> States | None:
    """The states of answers, 0 where a prompt has none; shape [answers, width]; None without such a column."""
    if STATE not in answers.column_names:
        return None
    column = answers[STATE].combine_chunks()
    states = np.zeros((len(column), column.type.list_size), dtype=np.float32)
    states[column.is_valid().to_numpy(zero_copy_only=False)] = column.flatten().to_numpy().reshape(-1, states.shape[1])
    return states


def _score_separately(
    model: PreTrainedModel,
    input_ids: Sequence[TokenIds],
    choices: Sequence[tuple[int, ...]],
    found: Scored,
    batch_tokens: int,
) -> None:
    """Fills in what each prompt scores."""
    sizes = np.array([len(ids) for ids in input_ids], dtype=np.int64)
    for indices in token_budget_batches(sizes + max(map(len, choices)), batch_tokens):
        prompts = [input_ids[i] for i in indices]
        found.put(indices, *_choice_scores(model, prompts, choices))


@torch.inference_mode()
def _choice_scores(
    model: PreTrainedModel, prompts: list[TokenIds], choices: Sequence[tuple[int, ...]]
) -> tuple[npt.NDArray[np.float64], Indices, Tensor]:
    """Log-likelihood of each choice [N, C], the greedy first token [N], and the state after the prompt [N, H].

    Choices that differ only in their last token share a forward pass, so choices of one token need only one.
    """
    stems: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, choice in enumerate(choices):
        stems[choice[:-1]].append(index)
    scores = np.zeros((len(prompts), len(choices)))
    greedy = np.zeros(len(prompts), dtype=np.int64)
    for stem, indices in stems.items():
        states, logits = _outputs_after(model, prompts, stem)
        logs = logits.double().log_softmax(-1)
        path = logs[:, list(range(len(stem))), list(stem)].sum(1)
        for index in indices:
            scores[:, index] = (path + logs[:, len(stem), choices[index][-1]]).cpu().numpy()
        greedy = logits[:, 0].argmax(-1).cpu().numpy()
    return scores, greedy, states


def _outputs_after(model: PreTrainedModel, prompts: list[TokenIds], stem: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """States [N, H] after each prompt; logits [N, len(stem) + 1, V] there and after each token of the stem."""
    # The last label is a placeholder: only the logits at its position, after the complete stem, are read.
    labels = np.array([*stem, 0], dtype=np.int32)
    batch = labelled_batch(prompts, [labels] * len(prompts)).to(model.device)
    hidden, logits = label_outputs(model, batch, hidden_states(model, batch))
    return hidden[:: len(labels)], logits.view(len(prompts), len(labels), -1)
