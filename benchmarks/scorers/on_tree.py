"""ZiGong's forward mode over one token tree per user; building the trees is counted."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor

from benchmarks.scorers.answering import Scoring, Way, answer_requests
from benchmarks.scorers.inputs import SampleSet, Vectors, load_model
from benchmarks.scorers.ours import opened_agent
from zigong.influence.branches import branch_products
from zigong.tokens.samples import Samples
from zigong.tokens.tree import user_trees

BATCH_TOKENS = 1024  # of trees: half of what an autograd pass takes, since values and derivatives are both kept


def open_way(folder: Path) -> Way:
    """Loads the model."""
    agent = opened_agent(load_model(folder))
    opened = agent.forward_mode

    def way(given: SampleSet, vectors: Vectors) -> Scoring:
        samples = as_samples(given)
        if len(vectors[0][0]) != 1:
            raise SystemExit(f"forward mode serves one vector, not {len(vectors[0][0])}")
        vector = tuple((a[0], b[0]) for a, b in vectors)
        bucket = np.zeros(len(samples), dtype=np.int64)

        def run() -> Tensor:
            trees = user_trees(samples, splits=["train"] * len(samples))
            found, _ = branch_products(opened, trees, [vector], bucket, batch_tokens=BATCH_TOKENS)
            return torch.from_numpy(found)[:, None]

        return run

    return way


def as_samples(given: SampleSet) -> Samples:
    """The set as the library's columns."""
    size = len(given)
    return Samples(
        sample_id=tuple(map(str, range(size))),
        user_id=tuple(given.users),
        observation_date=(date(2024, 1, 1),) * size,
        matured_at=(datetime(2024, 5, 1, tzinfo=UTC),) * size,
        label=np.zeros(size, dtype=np.int64),
        input_ids=tuple(np.asarray(ids, dtype=np.int32) for ids in given.prompts),
        completion_ids=tuple(np.asarray(ids, dtype=np.int32) for ids in given.answers),
    )


if __name__ == "__main__":
    answer_requests(open_way)
