"""ZiGong's materialised engine: one contracted pass for one vector, stacked products for many."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model
from benchmarks.scorers.stacked import score_against
from zigong.influence.capture import OpenAgent, pass_through
from zigong.influence.factorised import Matrices
from zigong.influence.lora import lora_pairs, shared_inputs
from zigong.influence.sinks import Contraction
from zigong.tokens.samples import Indices, LabelledBatch, labelled_batch, token_budget_batches

BATCH_TOKENS = 4096


def opened_agent(model: PeftModel) -> OpenAgent:
    """The benchmark's single checkpoint as an agent for scoring."""
    model.requires_grad_(False)
    pairs, base = lora_pairs(model), model.get_base_model()
    return OpenAgent(
        manifest=None,  # type: ignore[arg-type]  # dates and rates are not used here
        model=base,
        pairs=pairs,
        groups=shared_inputs(base, pairs),
        adapters=(),
    )


def ragged_batches(samples: SampleSet, budget: int) -> Iterator[tuple[Indices, LabelledBatch]]:
    """Our batches: by token budget, sorted by length."""
    prompts, answers = (
        [np.asarray(ids, dtype=np.int32) for ids in part] for part in (samples.prompts, samples.answers)
    )
    for indices in token_budget_batches(samples.lengths, budget):
        yield indices, labelled_batch([prompts[i] for i in indices], [answers[i] for i in indices])


def open_way(folder: Path) -> Way:
    """Loads the model."""
    agent = opened_agent(load_model(folder))

    def way(samples: SampleSet, vectors: Vectors) -> Scoring:
        batches = list(ragged_batches(samples, BATCH_TOKENS))
        count = len(vectors[0][0])
        if count == 1:
            vector = tuple((a[0], b[0]) for a, b in vectors)
            return lambda: _scattered([(indices, _contracted(agent, batch, vector)) for indices, batch in batches])
        stacked = tuple(vectors)
        order = np.concatenate([indices for indices, _ in batches])
        return lambda: _scattered([(order, score_against(agent, [batch for _, batch in batches], stacked))])

    return way


def _contracted(agent: OpenAgent, batch: LabelledBatch, vector: Matrices) -> Tensor:
    sink = Contraction(len(batch), vector)
    pass_through(agent, batch, sink)
    return sink.products[:, None]


def _scattered(parts: list[tuple[Indices, Tensor]]) -> Tensor:
    order = np.concatenate([indices for indices, _ in parts])
    return torch.cat([part for _, part in parts])[np.argsort(order)]


if __name__ == "__main__":
    answer_requests(open_way)
