"""The published features of keys, as the frame that models read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from zigong.dataset.samples import in_shard
from zigong.evaluation.member_rows import KEYS, rows_of_members
from zigong.features.frame import FEATURE_COLUMNS, features_of
from zigong.features.settings import FEATURE_TABLE, FeatureSettings
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned
from zigong.runs.job import Job


@dataclass(frozen=True, kw_only=True)
class PublishedFeatures:
    """A version of behavior_features; small enough to send to workers, which read it themselves.

    Attributes:
        root: root of the lakehouse.
        version: version of behavior_features.
        population: whose features they are.
        settings: what they were computed with.
    """

    root: str
    version: int
    population: str
    settings: FeatureSettings

    @classmethod
    def of(cls, job: Job) -> Self:
        """The features of a job's run."""
        settings = FeatureSettings.of(job.recipe)
        version = job.version(FEATURE_TABLE)
        return cls(root=job.paths.root, version=version, population=job.population, settings=settings)

    def read(self, keys: pa.Table, *, shard: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The features of keys, in their order; only their rows are in memory.

        Args:
            keys: user_id, loan_id, observation_date and sample_id.
            shard: the shard that contains them; only its partitions are read.

        Raises:
            DataError: a key has no features.
        """
        wanted = ds.field("population") == self.population
        for name in ("observation_date", "user_id"):
            wanted &= ds.field(name).isin(keys[name].unique())
        if shard is not None:
            wanted &= in_shard(shard)
        columns, paths = (*KEYS, *FEATURE_COLUMNS), LakehousePaths(root=self.root)
        rows = arrow_pinned(paths, FEATURE_TABLE, self.version, columns=columns, where=wanted)
        return features_of(rows_of_members(rows, keys, table=FEATURE_TABLE))
