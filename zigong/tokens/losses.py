"""Losses at label positions; every forward pass over a batch of samples goes through this module."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from zigong.tokens.answer_head import AnswerHead
from zigong.tokens.next_events import next_tokens_of_batch
from zigong.tokens.samples import LabelledBatch
from zigong.tokens.soft_answers import SoftAnswers

MIN_LABEL_ROWS = 16  # with fewer rows, matrix products use another kernel, and a sample's bits depend on the others


def hidden_states(model: PreTrainedModel, batch: LabelledBatch) -> Tensor:
    """Last hidden states [N, L, H] of a batch.

    Position ids count the tokens of a row according to its mask; pads are on the right.
    """
    backbone = model.base_model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=(batch.attention_mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    )
    hidden: Tensor = backbone.last_hidden_state
    return hidden


def label_logits(model: PreTrainedModel, batch: LabelledBatch) -> Tensor:
    """Logits [M, V] at the label positions only; no logits are computed at other positions."""
    return label_outputs(model, batch, hidden_states(model, batch))[1]


def label_outputs(model: PreTrainedModel, batch: LabelledBatch, states: Tensor) -> tuple[Tensor, Tensor]:
    """Last hidden states [M, H] and logits [M, V] at the label positions.

    Args:
        model: a causal language model.
        batch: N samples.
        states: output of :func:`hidden_states`.
    """
    hidden = states[batch.label_rows, batch.label_positions]
    padded = pad(hidden, (0, 0, 0, max(0, MIN_LABEL_ROWS - len(hidden))))
    logits: Tensor = model.get_output_embeddings()(padded)[: len(hidden)]
    return hidden, logits.float()


def token_losses(model: PreTrainedModel, batch: LabelledBatch) -> Tensor:
    """Negative log-likelihood of each label token: [M]."""
    return cross_entropy(label_logits(model, batch), batch.label_targets, reduction="none")


def sample_losses(
    model: PreTrainedModel, batch: LabelledBatch, soft: SoftAnswers | None = None, head: AnswerHead | None = None
) -> Tensor:
    """Mean loss of each sample over its label tokens: [N].

    Args:
        model: a causal language model.
        batch: N samples.
        soft: a teacher's answers to them; None: only the hard labels count.
        head: what else determines their answers; None: the language model alone.
    """
    return _answer_losses(model, batch, hidden_states(model, batch), soft, head)


def summed_losses(
    model: PreTrainedModel,
    batch: LabelledBatch,
    soft: SoftAnswers | None,
    head: AnswerHead | None = None,
    *,
    next_event_weight: float,
) -> Tensor:
    """Sum of :func:`sample_losses`, plus ``next_event_weight`` times the mean loss of each sample's prompt tokens."""
    placed, next_tokens = batch.to(model.device), next_tokens_of_batch(batch).to(model.device)
    states = hidden_states(model, placed)
    answers = _answer_losses(model, placed, states, soft, head).sum()
    return answers + next_event_weight * next_tokens.summed_loss(model, states)


def _answer_losses(
    model: PreTrainedModel, batch: LabelledBatch, states: Tensor, soft: SoftAnswers | None, head: AnswerHead | None
) -> Tensor:
    hidden, logits = label_outputs(model, batch, states)
    answers = logits if head is None else head.answered(logits, hidden, batch.label_rows)
    return mean_answer_losses(answers, batch.label_targets, batch.label_rows, len(batch), soft)


def mean_answer_losses(
    logits: Tensor, targets: Tensor, samples: Tensor, count: int, soft: SoftAnswers | None
) -> Tensor:
    """Mean loss of each sample over its label tokens, with a teacher's answers if there are any: [N].

    Args:
        logits: [M, V] at the label tokens.
        targets: [M] token ids of the labels.
        samples: [M] sample of each label token, ascending.
        count: N.
        soft: answers to the N samples, or None.
    """
    losses = cross_entropy(logits, targets, reduction="none")
    mixed = losses if soft is None else soft.mixed(losses, logits, samples)
    return mean_per_sample(mixed, samples, count)


def mean_per_sample(losses: Tensor, samples: Tensor, count: int) -> Tensor:
    """Mean of the label tokens of each sample.

    Args:
        losses: [..., M] loss of each label token.
        samples: [M] sample of each label token.
        count: N, the number of samples; each has at least one label token.

    Returns:
        [..., N].
    """
    totals = losses.new_zeros(*losses.shape[:-1], count).index_add(-1, samples, losses)
    return totals / losses.new_zeros(count).index_add(0, samples, losses.new_ones(len(samples)))
