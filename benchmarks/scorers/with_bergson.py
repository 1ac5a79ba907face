"""bergson: its gradient collector with a scorer in memory, its own batches sorted by length."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from bergson.collection import collect_gradients
from bergson.config.config import IndexConfig
from bergson.data import allocate_batches
from bergson.gradients import GradientProcessor
from bergson.score.score_writer import InMemorySequenceScoreWriter
from bergson.score.scorer import Scorer
from bergson.utils.utils import get_device
from datasets import Dataset
from torch import Tensor

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model, lora_layers

BATCH_TOKENS = 4096


def open_way(folder: Path) -> Way:
    """Loads the model."""
    model = load_model(folder)
    prefix = "base_model."  # bergson names modules from inside PEFT's wrapper
    names = [
        f"{name.removeprefix(prefix)}.{side}.default" for name in lora_layers(model) for side in ("lora_A", "lora_B")
    ]
    run_path = tempfile.mkdtemp()
    config = IndexConfig(run_path=run_path, loss_reduction="mean", token_batch_size=BATCH_TOKENS)

    def way(samples: SampleSet, vectors: Vectors) -> Scoring:
        count = len(vectors[0][0])
        rows = zip(samples.prompts, samples.answers, strict=True)
        data = Dataset.from_dict(
            {
                "input_ids": [prompt + answer for prompt, answer in zip(samples.prompts, samples.answers, strict=True)],
                "labels": [[-100] * len(prompt) + answer for prompt, answer in rows],
                "length": samples.lengths,
            }
        )
        flat = [part.flatten(1) for pair in vectors for part in pair]
        vectors.clear()
        writer = InMemorySequenceScoreWriter(len(samples), count)
        scorer = Scorer(
            query_grads=dict(zip(names, flat, strict=True)),
            modules=names,
            writer=writer,
            device=torch.device(get_device(0)),
            dtype=torch.float32,
        )

        def run() -> Tensor:
            shutil.rmtree(config.partial_run_path, ignore_errors=True)
            config.partial_run_path.mkdir(parents=True)
            batches = allocate_batches(data["length"][:], BATCH_TOKENS)
            collect_gradients(
                model=model,
                data=data,
                processor=GradientProcessor(),
                cfg=config,
                batches=batches,
                target_modules=set(names),
                scorer=scorer,
            )
            scores: Tensor = writer.scores
            return scores

        return run

    return way


if __name__ == "__main__":
    answer_requests(open_way)
