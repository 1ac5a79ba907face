"""dattri-llm: TracIn over its live gradient stream, against given test gradients. `FILE INPUT given|sorted`.

It batches by number of samples in the order of the data set; ``sorted`` hands it the samples sorted by length.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from dattri_llm import AttributionArguments, AttributionTask, HookManagerConfig, TracInAttributor
from dattri_llm.gradient.gradient import Gradient
from dattri_llm.gradient.streaming import GradientSource, GradientStreamer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model, lora_layers

BATCH_SIZE = 16


class GivenGradients(GradientSource):
    """One block of test gradients, given and not computed."""

    reusable = True

    def __init__(self, gradient: Gradient, count: int) -> None:
        self._block = (0, gradient, [str(index) for index in range(count)])

    def __iter__(self) -> Iterator[tuple[int, Gradient, list[str]]]:
        return iter([self._block])

    def __len__(self) -> int:
        return 1


def summed_losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The sum of the samples' own means: a batch mean would scale every gradient by the batch."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    return (losses.sum(1) / (labels != -100).sum(1)).sum()


def collate(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Pads on the right."""
    size = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, value: int) -> Tensor:
        return torch.tensor([row[name] + [value] * (size - len(row[name])) for row in rows])

    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", -100),
        "attention_mask": padded("attention_mask", 0),
    }


def open_way(folder: Path) -> Way:
    """Loads the model."""
    model = load_model(folder)
    names = [f"{name}.{side}.default" for name in lora_layers(model) for side in ("lora_A", "lora_B")]
    config = HookManagerConfig(hook_types=dict.fromkeys(names, "linear_io"))
    arguments = AttributionArguments(
        output_dir=tempfile.mkdtemp(), use_cpu=True, per_device_train_batch_size=BATCH_SIZE
    )
    attributor = TracInAttributor(arguments, task=AttributionTask(loss_func=summed_losses, model=model))

    def way(samples: SampleSet, vectors: Vectors) -> Scoring:
        rows = [
            {
                "input_ids": prompt + answer,
                "labels": [-100] * len(prompt) + answer,
                "attention_mask": [1] * len(prompt + answer),
            }
            for prompt, answer in zip(samples.prompts, samples.answers, strict=True)
        ]
        order = list(range(len(rows)))
        if sys.argv[2] == "sorted":
            order.sort(key=lambda index: len(rows[index]["input_ids"]))
        count = len(vectors[0][0])
        tests = GivenGradients(_given(names, vectors), count)

        def run() -> Tensor:
            stream = GradientStreamer(
                model,
                [rows[index] for index in order],
                arguments,
                batch_size=BATCH_SIZE,
                loss_fn=summed_losses,
                config=config,
                collate_fn=collate,
            )
            with stream:
                found = attributor.score_sources(stream, tests)[0]
            stream.hook_manager.remove()
            scores = torch.empty_like(found)
            scores[order] = found
            return scores

        return run

    return way


def _given(names: list[str], vectors: Vectors) -> Gradient:
    """Its dense form of a linear layer's gradient is that of the weight, flattened."""
    flat = [part.flatten(1) for pair in vectors for part in pair]
    vectors.clear()
    return Gradient(
        representation=dict.fromkeys(names, "materialized"),
        data=dict(zip(names, flat, strict=True)),
        layer_types=dict.fromkeys(names, "nn.Linear"),
    )


if __name__ == "__main__":
    answer_requests(open_way)
