"""Losses at label positions: the one place where a batch meets the model."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from zigong.tokens.samples import LabelledBatch

MIN_LABEL_ROWS = 16  # below, matrix products take another path, and a sample's bits would hang on its neighbours


def label_logits(model: PreTrainedModel, batch: LabelledBatch) -> Tensor:
    """Logits [M, V] at the label positions only; the vocabulary is never multiplied with the other positions.

    Position ids count the tokens of a row, as its mask does: pads stand on the right and have none of their own.
    """
    backbone = model.base_model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=(batch.attention_mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    )
    hidden = backbone.last_hidden_state[batch.label_rows, batch.label_positions]
    padded = pad(hidden, (0, 0, 0, max(0, MIN_LABEL_ROWS - len(hidden))))
    logits: Tensor = model.get_output_embeddings()(padded)[: len(hidden)]
    return logits.float()


def token_losses(model: PreTrainedModel, batch: LabelledBatch) -> Tensor:
    """Negative log-likelihood of each label token: [M]."""
    return cross_entropy(label_logits(model, batch), batch.label_targets, reduction="none")


def sample_losses(model: PreTrainedModel, batch: LabelledBatch) -> Tensor:
    """Each sample's own mean over its label tokens: [N]."""
    return mean_per_sample(token_losses(model, batch), batch.label_rows, len(batch))


def mean_per_sample(losses: Tensor, samples: Tensor, count: int) -> Tensor:
    """Mean of the label tokens of each sample.

    Args:
        losses: [..., M] of the label tokens.
        samples: [M] sample of each label token.
        count: N samples; each has a label token.

    Returns:
        [..., N].
    """
    totals = losses.new_zeros(*losses.shape[:-1], count).index_add(-1, samples, losses)
    return totals / losses.new_zeros(count).index_add(0, samples, losses.new_ones(len(samples)))
