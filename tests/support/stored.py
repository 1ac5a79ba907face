"""Everything that lies below a folder, as text."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq


def everything_on(root: Path) -> str:
    """Every file below a root as text, Parquet decoded row by row."""
    return "\n".join(
        json.dumps(pq.read_table(file).to_pylist(), default=str)
        if file.suffix == ".parquet"
        else file.read_bytes().decode("utf-8", errors="replace")
        for file in root.rglob("*")
        if file.is_file()
    )
