"""Reads labelled samples as Arrow: members of a dataset joined with their prompts, at pinned table versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from zigong.errors import DataError
from zigong.files.digests import complete_groups
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, pinned_dataset

MEMBER_COLUMNS = (
    "sample_id",
    "user_id",
    "person_id",
    "loan_id",
    "observation_date",
    "user_bucket",
    "matured_at",
    "label",
    "split",
    "task",
    "completion_ids",
)
UNLABELLED = "unlabelled"  # split of points that have no label and are trained on with a teacher's answer
PROMPT_KEYS = ["sample_id", "user_id", "loan_id", "observation_date"]


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """Location of the prompts of a population; small enough to send to workers, which read the tables themselves."""

    root: str
    samples_version: int
    population: str


@dataclass(frozen=True, kw_only=True)
class SampleSource(PromptSource):
    """Location of a dataset's members and of their prompts."""

    dataset_id: str
    members_version: int

    def members(self, splits: Sequence[str]) -> pa.Table:
        """Members of the given splits, without prompts, sorted by sample_id."""
        chosen = (ds.field("dataset_id") == self.dataset_id) & ds.field("split").isin(list(splits))
        paths = LakehousePaths(root=self.root)
        found = arrow_pinned(paths, "dataset_members", self.members_version, columns=MEMBER_COLUMNS, where=chosen)
        return found.sort_by("sample_id")

    def unlabelled(self, answer: Sequence[int]) -> pa.Table:
        """Members of the split ``unlabelled``, without prompts, sorted by sample_id.

        Args:
            answer: token ids in the place of an answer, where a teacher's answer is learned; they are not a label.
        """
        found = self.members([UNLABELLED])
        place = found.column_names.index("completion_ids")
        field = found.schema.field(place)
        return found.set_column(place, field, pa.array([list(answer)] * len(found), field.type))

    def labelled(self, splits: Sequence[str], extra: Sequence[str] = ()) -> pa.Table:
        """Members of the given splits with ``input_ids`` and ``extra`` columns of their samples."""
        return self.with_prompts(self.members(splits), extra)

    def with_prompts(self, members: pa.Table, extra: Sequence[str] = ()) -> pa.Table:
        """Adds ``input_ids`` (and ``extra`` columns) to members; see :meth:`with_columns`."""
        return self.with_columns(members, ("input_ids", *extra))

    def with_columns(self, members: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Adds columns of their instruction samples to members, reading only their partitions.

        Raises:
            DataError: a member has no instruction sample at the pinned version.
        """
        return self._joined(members, self._samples(columns), columns)

    def write_prompts(self, members: pa.Table, file: Path) -> None:
        """Writes members with ``input_ids`` into an Arrow file, cell by cell: only the prompts of one are in memory.

        The cells are those of observation_date and user_bucket in this order, each sorted by sample_id.

        Args:
            members: at least one.
            file: an uncompressed Arrow IPC file, which readers can map into memory.

        Raises:
            DataError: a member has no instruction sample at the pinned version.
        """
        order = [(name, "ascending") for name in ("observation_date", "user_bucket", "sample_id")]
        ordered, columns = members.sort_by(order), ("input_ids",)
        samples, start = self._samples(columns), 0
        schema = ordered.schema.append(pa.field("input_ids", samples.schema.field("input_ids").type))
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for cell in partition_shards(ordered):
                writer.write_table(self._joined(ordered.slice(start, cell["rows"]), samples, columns))
                start += cell["rows"]

    def _samples(self, columns: Sequence[str]) -> ds.Dataset:
        paths = LakehousePaths(root=self.root)
        names = ("sample_id", *columns)
        return pinned_dataset(paths, "instruction_samples", self.samples_version, columns=names)

    def _joined(self, members: pa.Table, samples: ds.Dataset, columns: Sequence[str]) -> pa.Table:
        partitions = (
            (ds.field("population") == self.population)
            & ds.field("observation_date").isin(members["observation_date"].unique())
            & ds.field("user_bucket").isin(members["user_bucket"].unique())
        )
        read = samples.to_table(columns=["sample_id", *columns], filter=partitions)
        places = pd.Index(read["sample_id"].to_pandas()).get_indexer(members["sample_id"].to_pandas())
        if (places < 0).any():
            missing = members["sample_id"][int((places < 0).argmax())]
            raise DataError(
                f"{(places < 0).sum()} members of {self.dataset_id} have no instruction sample, first {missing}",
                action="rebuild the dataset from the current instruction samples (build_dataset)",
            )
        found = read.take(pa.array(places))
        for name in columns:
            members = members.append_column(name, found[name])
        return members


def of_task(members: pa.Table, task: str) -> pa.Table:
    """The members of one task."""
    return members.filter(ds.field("task") == task)


def capped(members: pa.Table, most: int) -> pa.Table:
    """At most ``most`` members: all members of each user, in the order of the hash of their pseudonym.

    Raises:
        DataError: the first user alone has more than ``most``.
    """
    chosen = complete_groups(members["user_id"].to_pylist(), most)
    if len(members) and not chosen:
        raise DataError(
            f"one user has more than {most} samples",
            action="raise the cap, such as influence.max_targets or mix.proxy_samples",
        )
    return members.take(pa.array(chosen, pa.int64()))


def partition_shards(table: pa.Table) -> list[dict[str, Any]]:
    """The (observation_date, user_bucket) partitions of a table as shards, each a fixed set of keys of one version."""
    found = table.group_by(["observation_date", "user_bucket"]).aggregate([([], "count_all")]).to_pylist()
    places = sorted((row["observation_date"].isoformat(), row["user_bucket"], row["count_all"]) for row in found)
    return [
        {"shard": f"{day}_{bucket:04d}", "observation_date": day, "user_bucket": bucket, "rows": rows}
        for day, bucket, rows in places
    ]


def user_shards(table: pa.Table) -> list[dict[str, Any]]:
    """The user buckets of a table as shards over all dates, so that no user is split."""
    found = table.group_by(["user_bucket"]).aggregate([([], "count_all")]).sort_by("user_bucket").to_pylist()
    return [
        {"shard": f"users_{row['user_bucket']:04d}", "user_bucket": row["user_bucket"], "rows": row["count_all"]}
        for row in found
    ]


def in_shard(shard: Mapping[str, Any]) -> ds.Expression:
    """Rows of one shard, restricted to the samples listed under ``only`` if the shard has it."""
    rows = ds.field("user_bucket") == shard["user_bucket"]
    if "observation_date" in shard:
        rows &= ds.field("observation_date") == date.fromisoformat(shard["observation_date"])
    return rows & ds.field("sample_id").isin(shard["only"]) if "only" in shard else rows


def members_in(members: pa.Table, shard: Mapping[str, Any]) -> pa.Table:
    """The members in one shard."""
    return members.filter(in_shard(shard))


def prompts_of_shard(
    source: PromptSource, shard: Mapping[str, Any], template: str, horizon: str, *, among: pa.Table | None = None
) -> pa.Table:
    """PROMPT_KEYS and input_ids of one template and horizon in one shard of instruction_samples, by sample_id.

    Args:
        among: members; if given, only their prompts are returned.
    """
    condition = (ds.field("population") == source.population) & in_shard(shard)
    condition &= (ds.field("template") == template) & (ds.field("horizon") == horizon)
    if among is not None:
        here = members_in(among, shard)
        condition &= ds.field("observation_date").isin(here["observation_date"].unique())
        condition &= ds.field("sample_id").isin(here["sample_id"].unique())
    paths = LakehousePaths(root=source.root)
    columns = (*PROMPT_KEYS, "input_ids")
    found = arrow_pinned(paths, "instruction_samples", source.samples_version, columns=columns, where=condition)
    return found.sort_by("sample_id")
