"""Samples in an Arrow file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from zigong.tokens.samples import Samples


def table_of(samples: Samples) -> pa.Table:
    """The samples as the table that a training reads."""
    return pa.table(
        {
            "sample_id": list(samples.sample_id),
            "user_id": list(samples.user_id),
            "observation_date": list(samples.observation_date),
            "matured_at": list(samples.matured_at),
            "label": samples.label,
            "input_ids": pa.array(list(samples.input_ids), pa.list_(pa.int32())),
            "completion_ids": pa.array(list(samples.completion_ids), pa.list_(pa.int32())),
        }
    )


def mapped(samples: Samples, file: Path, *, rows: int | None = None) -> Samples:
    """The samples, written into a file of record batches of ``rows`` and mapped."""
    table = table_of(samples)
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return Samples.mapped(file)
