"""A tiny agent with targets and a lakehouse of ragged samples, created without Spark, as input of scoring on Ray."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from tests.support.tiny_models import make_agent_settings, make_base, make_samples
from zigong.dataset.samples import SampleSource, partition_shards
from zigong.fanout.staged import Shard, write_shard
from zigong.influence.target_file import TargetHeader
from zigong.influence.target_groups import target_groups, target_shards
from zigong.influence.target_merge import merge_targets
from zigong.influence.targets import target_fingerprint
from zigong.influence.worker import ScoringTask, TargetWorker
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version
from zigong.recipe import Influence
from zigong.tokens.samples import Samples
from zigong.training.checkpoints import read_checkpoints
from zigong.training.trainer import train_agent

DATES = (date(2023, 1, 1), date(2023, 2, 1))
TARGET_DATES = (date(2023, 8, 1), date(2023, 9, 1))
SETTINGS = Influence(batch_tokens=500)
# two of seven users have no target
TARGETS = make_samples(11, seed=9, dates=TARGET_DATES, prefix="t").take([*range(5), *range(7, 11)])


@dataclass(frozen=True, kw_only=True)
class ScoredLake:
    """The location of the lakehouse, and its newest samples."""

    folder: Path
    samples: Samples
    settings: Influence = SETTINGS

    @property
    def source(self) -> SampleSource:
        paths = LakehousePaths.at(str(self.folder))
        version = latest_version(paths, "instruction_samples")
        return SampleSource(
            root=paths.root, dataset_id="d", members_version=0, samples_version=version, population="c1"
        )

    @property
    def members(self) -> pa.Table:
        return self.source.with_columns(self.source.members(["train"]), ("text_hash",))

    @property
    def target_header(self) -> TargetHeader:
        manifest, targets = read_checkpoints(self.folder / "agent"), self.source.members(["target"])
        return TargetHeader(
            fingerprint=target_fingerprint(manifest, TARGETS.sample_id, self.settings),
            inputs="inputs",
            target_ids=tuple(sorted(TARGETS.sample_id)),
            groups=target_groups(targets, self.settings.scope, business_timezone="UTC"),
            checkpoints=len(manifest.checkpoints),
        )

    def shards(self) -> list[dict[str, Any]]:
        return partition_shards(self.members)

    def target_shards(self) -> list[dict[str, Any]]:
        return target_shards(self.source.members(["target"]), self.settings.scope, self.target_header.checkpoints)

    def keys_of(self, shard: Shard) -> list[str]:
        day, bucket = date.fromisoformat(shard["observation_date"]), shard["user_bucket"]
        cell = zip(self.samples.sample_id, self.samples.observation_date, self.samples.user_id, strict=True)
        return sorted(key for key, seen, user in cell if (seen, _bucket(user)) == (day, bucket))

    def arguments(self) -> dict[str, Any]:
        return {
            "task": ScoringTask(
                source=self.source,
                base_folder=self.folder / "base",
                agent_folder=self.folder / "agent",
                targets_file=self.folder / "targets.safetensors",
                settings=self.settings,
                torch_threads=1,
            )
        }


def make_scored_lake(folder: Path, size: int) -> ScoredLake:
    """Samples in cells of about seven users each, on two dates and in four buckets."""
    base, samples = make_base(folder / "base"), make_samples(size, dates=DATES)
    train_agent(base, samples, make_agent_settings(2), seed=1, torch_threads=1, folder=folder / "agent", data={})
    paths = LakehousePaths.at(str(folder))
    members = [_member(samples, index, "train") for index in range(size)]
    members += [_member(TARGETS, index, "target") for index in range(len(TARGETS))]
    write_deltalake(paths.table("dataset_members"), pa.Table.from_pylist(members))
    return with_settings(write_samples(folder, samples), SETTINGS)


def with_settings(lake: ScoredLake, settings: Influence) -> ScoredLake:
    """The same lakehouse with target gradients of other settings."""
    changed = replace(lake, settings=settings)
    merged_targets(changed, changed.target_shards(), changed.folder / "stage_of_targets")
    return changed


def merged_targets(lake: ScoredLake, computed: Sequence[Shard], stage: Path, *, workers: int = 1) -> Path:
    """The file of target gradients, after workers without Ray have computed the shards in turn, in the given order."""
    stage.mkdir(exist_ok=True)
    actors = [TargetWorker(**lake.arguments()) for _ in range(workers)]
    for number, shard in enumerate(computed):
        write_shard(actors[number % workers](shard), shard, stage_folder=stage, fingerprint="f")
    file: Path = lake.arguments()["task"].targets_file
    merge_targets(lake.target_header, lake.target_shards(), stage, file)
    return file


def write_samples(folder: Path, samples: Samples) -> ScoredLake:
    """Writes a new version of instruction_samples."""
    rows = [_instruction(one, index) for one in (samples, TARGETS) for index in range(len(one))]
    table = LakehousePaths.at(str(folder)).table("instruction_samples")
    write_deltalake(table, pa.Table.from_pylist(rows), mode="overwrite")
    return ScoredLake(folder=folder, samples=samples)


def with_other_text(lake: ScoredLake, keys: Collection[str]) -> ScoredLake:
    """The same lakehouse after the prompts of some samples grew by three tokens."""
    prompts = tuple(
        np.append(ids, np.array([7, 8, 9], dtype=np.int32)) if key in keys else ids
        for key, ids in zip(lake.samples.sample_id, lake.samples.input_ids, strict=True)
    )
    columns = {name: getattr(lake.samples, name) for name in lake.samples.__dataclass_fields__}
    written = write_samples(lake.folder, Samples(**{**columns, "input_ids": prompts}))
    return replace(written, settings=lake.settings)


def _bucket(user_id: str) -> int:
    return int(user_id[1:]) % 4


def _common(samples: Samples, index: int) -> dict[str, Any]:
    user, day = samples.user_id[index], samples.observation_date[index]
    return {
        "sample_id": samples.sample_id[index],
        "user_id": user,
        "person_id": user,
        "population": "c1",
        "loan_id": "",
        "observation_at": datetime.combine(day, time(), UTC),
        "observation_date": day,
        "user_bucket": _bucket(user),
        "task": "card",
    }


def _member(samples: Samples, index: int, split: str) -> dict[str, Any]:
    return {
        **_common(samples, index),
        "dataset_id": "d",
        "completion": "bad",
        "completion_ids": samples.completion_ids[index].tolist(),
        "label": int(samples.label[index]),
        "matured_at": samples.matured_at[index],
        "split": split,
    }


def _instruction(samples: Samples, index: int) -> dict[str, Any]:
    ids = samples.input_ids[index].tolist()
    return {
        **_common(samples, index),
        "sequence_id": f"q{index}",
        "template": "card@1",
        "language": "en",
        "horizon": "1m30dpd",
        "prompt": " ".join(map(str, ids)),
        "choices": ["bad", "good"],
        "input_ids": ids,
        "history_tokens": 0,
        "max_tokens": 64,
        "text_hash": hashlib.sha256(str(ids).encode()).hexdigest(),
    }
