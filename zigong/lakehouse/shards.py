"""Shards that Ray staged, verified and read for the one commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.errors import DataError


def staged_rows(folder: Path, shards: Sequence[str], expected: pa.ChunkedArray, *, key: str = "sample_id") -> pa.Table:
    """The rows of all shards, after both anti-joins with the keys that had to come.

    Args:
        folder: where the shards were staged.
        shards: their names.
        expected: keys that had to be computed, each once.

    Raises:
        DataError: a key is missing, came twice or was never asked for.
    """
    rows = ds.dataset([str(folder / f"{name}.parquet") for name in shards]).to_table().sort_by(key)
    found = rows[key]
    missing = pc.sum(pc.invert(pc.is_in(expected, found.combine_chunks()))).as_py() or 0
    strange = pc.sum(pc.invert(pc.is_in(found, expected.combine_chunks()))).as_py() or 0
    twice = len(found) - pc.count_distinct(found).as_py()
    if missing or strange or twice:
        raise DataError(
            f"{folder.name}: expected {len(expected)} keys, found {len(found)}: {missing} missing, {strange} unknown, "
            f"{twice} twice",
            action="run the step again with a new run id; if it persists, report the versions in the run's manifest",
        )
    return rows
