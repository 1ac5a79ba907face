"""The floor: only batched forward and backward of the summed losses. `FILE INPUT label|full`.

``label``: our loss code, logits at label positions only. ``full``: logits at every position, as model(...) gives them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model
from benchmarks.scorers.ours import BATCH_TOKENS, ragged_batches
from zigong.tokens.losses import sample_losses
from zigong.tokens.samples import LabelledBatch


def open_way(folder: Path) -> Way:
    """Loads the model."""
    model, full = load_model(folder), sys.argv[2] == "full"

    def way(samples: SampleSet, _: Vectors) -> Scoring:
        batches = [batch for _, batch in ragged_batches(samples, BATCH_TOKENS)]

        def run() -> Tensor:
            for batch in batches:
                losses = full_losses(model, batch) if full else sample_losses(model.get_base_model(), batch)
                losses.sum().backward()  # type: ignore[no-untyped-call]
                model.zero_grad()
            return torch.zeros(len(samples), 0)

        return run

    return way


def full_losses(model: PeftModel, batch: LabelledBatch) -> Tensor:
    """Each sample's mean, with the vocabulary multiplied with every position."""
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.label_rows, batch.label_positions] = batch.label_targets
    losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    return losses.sum(1) / (labels != -100).sum(1)


if __name__ == "__main__":
    answer_requests(open_way)
