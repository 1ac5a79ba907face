"""The actors: each opens the agent once, then computes shards of the targets or of the training samples one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from zigong.dataset.samples import SampleSource, members_in
from zigong.influence.capture import OpenAgent, open_agent
from zigong.influence.precondition import preconditioners
from zigong.influence.score import score_samples
from zigong.influence.target_file import read_targets
from zigong.influence.target_sums import group_table
from zigong.recipe import Influence
from zigong.tokens.samples import Samples
from zigong.training.checkpoints import read_checkpoints
from zigong.training.devices import device_here


@dataclass(frozen=True, kw_only=True)
class ScoringTask:
    """Everything that workers need; small enough to send to workers, which read the data themselves.

    Attributes:
        targets_file: file of the target gradients.
    """

    source: SampleSource
    base_folder: Path
    agent_folder: Path
    targets_file: Path
    settings: Influence
    torch_threads: int

    def open_agent(self) -> OpenAgent:
        """Opens the agent with its base and all its checkpoints."""
        return open_agent(
            self.base_folder,
            read_checkpoints(self.agent_folder),
            torch_threads=self.torch_threads,
            device=device_here(),
            precision=self.settings.precision,
            gradient_checkpointing=self.settings.gradient_checkpointing,
        )


class TargetWorker:
    """Sums the gradients of shards: a shard is some targets at one checkpoint (:func:`target_shards`).

    It holds one base, whose adapters it swaps, and the prompts of one shard. The sums of a shard do not depend on the
    shards that the worker has computed before.
    """

    def __init__(self, *, task: ScoringTask) -> None:
        self._task = task
        self._agent = task.open_agent()
        self._factors = preconditioners(self._agent, task.settings)
        self._members = task.source.members(["target"])
        self._keys: list[str] = []

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        """Sums of one shard, one row per group of targets: see :func:`group_table`."""
        if shard["only"] != self._keys:  # else another checkpoint of the targets before
            chosen = self._members.filter(ds.field("sample_id").isin(shard["only"])).sort_by("sample_id")
            self._targets = Samples.from_arrow(self._task.source.with_prompts(chosen))
            self._keys = shard["only"]
        return group_table(self._agent, self._targets, shard["checkpoint"], self._task.settings, self._factors)


class InfluenceWorker:
    """Scores shards; a shard is one (observation_date, user_bucket) partition of the training samples, or a part of it.

    A sample's score does not depend on its shard: see ``by_length_class`` of :func:`score_samples`.
    """

    def __init__(self, *, task: ScoringTask) -> None:
        self._task = task
        self._agent = task.open_agent()
        self._targets = read_targets(task.targets_file)
        self._members = task.source.members(["train"])

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        """Scores of one shard, one row per sample."""
        samples = Samples.from_arrow(self._task.source.with_prompts(members_in(self._members, shard)))
        return score_samples(self._agent, self._targets, samples, self._task.settings, by_length_class=True)
