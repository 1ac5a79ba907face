"""What a scoring actor does: opens the agent once, then scores one cell of the training samples after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from zigong.dataset.samples import SampleSource, cell_of
from zigong.influence.capture import open_agent
from zigong.influence.score import score_samples
from zigong.influence.target_file import read_targets
from zigong.recipe import Influence
from zigong.tokens.samples import Samples
from zigong.training.checkpoints import read_checkpoints


class InfluenceWorker:
    """Scores shards; a shard is one (observation_date, user_bucket) cell of the training samples, or some of it.

    A sample's scores do not depend on the shard it came in: see ``by_length_class`` of :func:`score_samples`.
    """

    def __init__(
        self,
        *,
        source: SampleSource,
        base_folder: Path,
        agent_folder: Path,
        targets_file: Path,
        settings: Influence,
        torch_threads: int,
    ) -> None:
        self._source = source
        self._settings = settings
        self._agent = open_agent(
            base_folder,
            read_checkpoints(agent_folder),
            torch_threads=torch_threads,
            precision=settings.precision,
            gradient_checkpointing=settings.gradient_checkpointing,
        )
        self._targets = read_targets(targets_file)
        self._members = source.members(["train"])

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        """Scores of one cell, one row per sample."""
        samples = Samples.from_arrow(self._source.with_prompts(cell_of(self._members, shard)))
        return score_samples(self._agent, self._targets, samples, self._settings, by_length_class=True)
