"""The textbook: autograd with a batch of one, the flat gradient times the stacked vectors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model, lora_layers


def open_way(folder: Path) -> Way:
    """Loads the model."""
    model = load_model(folder)
    weights = [side["default"].weight for one in lora_layers(model).values() for side in (one.lora_A, one.lora_B)]

    def way(samples: SampleSet, vectors: Vectors) -> Scoring:
        stacked = torch.cat([part.flatten(1) for pair in vectors for part in pair], 1)
        vectors.clear()

        def score(prompt: list[int], answer: list[int]) -> Tensor:
            ids = torch.tensor([prompt + answer])
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            gradients = torch.autograd.grad(cross_entropy(logits, ids[0, len(prompt) :]), weights)
            return stacked @ torch.cat([part.flatten() for part in gradients])

        return lambda: torch.stack([score(*one) for one in zip(samples.prompts, samples.answers, strict=True)])

    return way


if __name__ == "__main__":
    answer_requests(open_way)
