"""Merges the sums of staged shards into the file of target gradients, always in the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zigong.errors import DataError
from zigong.fanout.staged import Shard, read_shard
from zigong.influence.target_file import Row, Shape, TargetHeader, write_targets
from zigong.influence.target_groups import TargetGroup

SUMS_FROM = 2  # columns before the sums: the group's name, and its count


def merge_targets(header: TargetHeader, shards: Sequence[Shard], stage_folder: Path, file: Path) -> None:
    """Adds up the sums of all shards and writes them.

    The bits of the file depend on the targets, the agent and the settings, not on the workers: the shards are fixed
    (:func:`zigong.influence.target_groups.target_shards`), the sum of each is made in fp64 by one worker, batch after
    batch, and here the shards are added in fp64 in the order of ``shards``, whichever was finished first. A sum is
    rounded once, to fp32, when the last of its shards is added. This holds as far as a pass over one batch has the same
    bits on every worker: on CPUs of one kind with equal ``torch_threads``. Kernels of GPUs may differ in the last bits
    from pass to pass; the merge adds nothing to that.

    In memory are one shard, and the sums of the groups that have begun and are not complete: with ``scope: population``
    at most the four of one date, with ``scope: user`` hardly any beyond the shard's.

    Args:
        header: the groups and checkpoints of the targets, and their digests.
        shards: all shards, in their order.
        stage_folder: folder in which they are staged.
        file: the file to write.

    Raises:
        DataError: the shards do not contain each target once.
    """

    def tables(checkpoint: int) -> Iterator[pa.Table]:
        return (read_shard(stage_folder, shard) for shard in shards if shard["checkpoint"] == checkpoint)

    places = {name: number for number, name in enumerate(header.groups)}
    rows = (
        (checkpoint, places[name], row)
        for checkpoint in range(header.checkpoints)
        for name, row in group_totals(tables(checkpoint), header.groups)
    )
    write_targets(file, header, _weights(read_shard(stage_folder, shards[0])), rows)


def group_totals(tables: Iterable[pa.Table], groups: Mapping[str, TargetGroup]) -> Iterator[tuple[str, Row]]:
    """Adds up the sums of one checkpoint, in the order of the tables.

    Args:
        tables: results of :func:`zigong.influence.target_sums.group_table`.
        groups: the groups by name.

    Yields:
        Name and sum [P] of each group, as soon as all its targets are added.

    Raises:
        DataError: the tables do not contain each target once.
    """
    totals, counts, complete = dict[str, Any](), Counter[str](), set[str]()
    for table in tables:
        for name, count, row in zip(table["group"].to_pylist(), table["count"].to_pylist(), _rows(table), strict=True):
            totals[name] = totals.get(name, 0.0) + row
            counts[name] += count
            if name in groups and counts[name] == groups[name].count:
                complete.add(name)
                yield name, totals.pop(name).astype(np.float32)
    wrong = sorted({*totals, *(groups.keys() - complete)})
    if wrong:
        expected = groups[wrong[0]].count if wrong[0] in groups else 0
        raise DataError(
            f"{len(wrong)} groups of targets are not complete, first {wrong[0]}: expected {expected} targets, "
            f"found {counts[wrong[0]]}",
            action="run the step again with a new run id; if it persists, report the versions in the run's manifest",
        )


def _rows(table: pa.Table) -> npt.NDArray[np.float64]:
    """The sums [G, P] of a table, all weights of a group one after the other."""
    weights = [column.combine_chunks().to_numpy_ndarray() for column in table.columns[SUMS_FROM:]]
    return np.concatenate([part.reshape(len(table), -1) for part in weights], axis=1)


def _weights(table: pa.Table) -> dict[str, Shape]:
    return {field.name: tuple(field.type.shape) for field in list(table.schema)[SUMS_FROM:]}
