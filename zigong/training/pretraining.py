"""Pre-training on complete timelines: every token is predicted from those before it, and there is no label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from zigong.errors import DataError
from zigong.tokens.losses import token_losses
from zigong.tokens.samples import Indices, TokenIds, labelled_batch, token_budget_batches
from zigong.training.optimise import OptimiserStep, Progress, learning_rate, shuffled_batches, take_steps

WINDOW_BATCHES = 16  # number of batches whose timelines are sorted by length together
WARMUP_SHARE = 0.05
GRADIENT_NORM = 1.0


class Pretraining(Protocol):
    """What the recipe's sections about pre-training have in common."""

    @property
    def epochs(self) -> int:
        """Passes over the timelines."""
        ...

    @property
    def learning_rate(self) -> float:
        """Highest learning rate."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of one step."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Predicted tokens after which the training ends; None: it ends with the epochs."""
        ...


def pieces_of(timelines: Sequence[Sequence[int] | TokenIds], context_length: int) -> list[TokenIds]:
    """The pieces of all timelines.

    Raises:
        DataError: no timeline has two tokens.
    """
    pieces = [piece for timeline in timelines for piece in timeline_pieces(timeline, context_length)]
    if not pieces:
        raise DataError("no timeline has two tokens to learn from", action="check the events before the train cut-off")
    return pieces


def timeline_pieces(timeline: Sequence[int] | TokenIds, context_length: int) -> list[TokenIds]:
    """Pieces of at most ``context_length`` tokens that overlap by one, so all tokens except the first are predicted."""
    ids = np.asarray(timeline, dtype=np.int32)
    return [ids[start : start + context_length] for start in range(0, max(0, len(ids) - 1), context_length - 1)]


def pretrain(
    model: PreTrainedModel,
    pieces: Sequence[TokenIds],
    settings: Pretraining,
    *,
    seed: int,
    progress: Progress | None,
    bf16: bool = False,
) -> list[tuple[int, float]]:
    """Trains all parameters to predict each token of the pieces from those before it.

    Args:
        model: the model, on its device.
        pieces: token ids, at least two each.
        settings: passes, rate and size of the steps.
        seed: of the order.
        progress: called with step, steps and loss.
        bf16: whether the passes are computed in bf16.

    Returns:
        Predicted tokens and mean loss of each step.
    """
    labels = np.array([len(piece) - 1 for piece in pieces])
    batches = _batches(labels, settings, seed)
    total = len(batches)
    steps = [
        OptimiserStep(
            batches=(batch,),
            rate=learning_rate(step, total, peak=settings.learning_rate, warmup=int(total * WARMUP_SHARE)),
            total=int(labels[batch].sum()),
        )
        for step, batch in enumerate(batches)
    ]
    losses: list[tuple[int, float]] = []

    def report(loss: float) -> None:
        losses.append((steps[len(losses)].total, loss))
        if progress is not None:
            progress(len(losses), total, loss)

    def summed_loss(batch: Indices) -> Tensor:
        firsts, rests = [pieces[i][:1] for i in batch], [pieces[i][1:] for i in batch]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            return token_losses(model, labelled_batch(firsts, rests).to(model.device)).sum()

    model.train()
    take_steps(
        steps,
        optimizer=torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01),
        summed_loss=summed_loss,
        clip=GRADIENT_NORM,
        report=report,
    )
    model.eval()
    return losses


def _batches(labels: Indices, settings: Pretraining, seed: int) -> list[Indices]:
    """The batches of all epochs, truncated at ``max_tokens`` predicted tokens."""
    generator = np.random.default_rng(seed)
    window = max(1, WINDOW_BATCHES * settings.batch_tokens // int(labels.mean() + 1))
    batches = [
        batch
        for _ in range(settings.epochs)
        for batch in shuffled_batches(
            len(labels),
            generator,
            window=window,
            divide=lambda part: token_budget_batches(labels[part] + 1, settings.batch_tokens),
        )
    ]
    if settings.max_tokens is None:
        return batches
    reached = np.cumsum([labels[batch].sum() for batch in batches])
    return batches[: int(np.searchsorted(reached, settings.max_tokens)) + 1]
