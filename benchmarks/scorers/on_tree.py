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
from zigong.influence.decoder import layer_weights, open_forward_mode
from zigong.influence.forward import branch_derivatives
from zigong.timeline.blocks import tree_blocks
from zigong.timeline.tree import user_trees
from zigong.training.samples import Samples


def open_way(folder: Path) -> Way:
    """Loads the model."""
    agent = opened_agent(load_model(folder))
    opened = open_forward_mode(agent.model, agent.pairs)

    def way(given: SampleSet, vectors: Vectors) -> Scoring:
        samples = as_samples(given)
        count = len(vectors[0][0])
        one_each = [tuple((a[index], b[index]) for a, b in vectors) for index in range(count)]

        def run() -> Tensor:
            weights = layer_weights(opened, one_each)
            scores = torch.zeros(len(samples), count, dtype=torch.float64)
            for members, tree in user_trees(samples, splits=["train"] * len(samples)):
                scores[members] = branch_derivatives(opened, weights, tree_blocks([tree]), vectors=count)[1].T
            return scores

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
