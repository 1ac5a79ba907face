"""ZiGong's materialised engine: one contracted pass for one vector, stacked products for many."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model, lora_layers
from zigong.influence.capture import OpenAgent, contracted_gradients
from zigong.training.losses import sample_losses
from zigong.training.samples import Indices, LabelledBatch, labelled_batch, token_budget_batches

BATCH_TOKENS = 4096


def opened_agent(model: PeftModel) -> OpenAgent:
    """The benchmark's one checkpoint as scoring sees an agent."""
    layers = lora_layers(model)
    model.requires_grad_(False)
    return OpenAgent(
        manifest=None,  # type: ignore[arg-type]  # nothing here asks for dates or rates
        model=model.get_base_model(),
        names=tuple(layers),
        pairs=tuple((layer.lora_A["default"], layer.lora_B["default"]) for layer in layers.values()),
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
            return lambda: _scattered(
                [(indices, contracted_gradients(agent, batch, vector)[:, None]) for indices, batch in batches]
            )
        stacked = [torch.cat([a.flatten(1), b.flatten(1)], 1).T.contiguous() for a, b in vectors]
        vectors.clear()
        return lambda: _scattered([(indices, stacked_products(agent, batch, stacked)) for indices, batch in batches])

    return way


def _scattered(parts: list[tuple[Indices, Tensor]]) -> Tensor:
    order = np.concatenate([indices for indices, _ in parts])
    return torch.cat([part for _, part in parts])[np.argsort(order)]


def stacked_products(agent: OpenAgent, batch: LabelledBatch, stacked: list[Tensor]) -> Tensor:
    """<gradient of each sample, each vector>: [N, M].

    Args:
        agent: its adapter's weights are in use.
        batch: N samples.
        stacked: per LoRA pair the vectors [r D + O r, M], A before B.
    """
    scores = torch.zeros(len(batch), stacked[0].shape[1])
    handles = []
    for (a, b), vectors in zip(agent.pairs, stacked, strict=True):
        kept: list[Tensor] = []
        handles.append(a.register_forward_pre_hook(lambda _, given, kept=kept: kept.append(given[0].detach())))
        handles.append(b.register_forward_hook(_multiplying(kept, vectors, scores)))
    try:
        sample_losses(agent.model, batch).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    return scores


def _multiplying(kept: list[Tensor], vectors: Tensor, scores: Tensor):  # type: ignore[no-untyped-def]
    def hook(b: nn.Linear, given: tuple[Tensor], output: Tensor) -> Tensor:
        x, h = kept.pop(), given[0].detach()

        def multiply(dy: Tensor) -> None:
            gradient_a = (dy @ b.weight).mT @ x
            gradient_b = dy.mT @ h
            scores.addmm_(torch.cat([gradient_a.flatten(1), gradient_b.flatten(1)], 1), vectors)

        output = output if output.requires_grad else output.requires_grad_(True)
        output.register_hook(multiply)
        return output

    return hook


if __name__ == "__main__":
    answer_requests(open_way)
