"""Staged Parquet files as a commit adds them: partition values from their paths, counts and statistics from footers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from schemas.contracts import TableContract
from zigong.files.stores import Store, StoredFile, store_of
from zigong.lakehouse.paths import LakehousePaths

STATISTICS_TYPES = {"int", "bigint", "double", "timestamp", "date"}
_NULL = "__HIVE_DEFAULT_PARTITION__"
_READERS = 16  # footers that are read at a time: most of it is waiting for the store


@dataclass(frozen=True, kw_only=True)
class StagedFile:
    """A file of rows.

    Attributes:
        add: the action that adds it to a version.
        rows: number of its rows.
        nulls: number of null values by column, of the columns whose footers state it.
    """

    add: AddAction
    rows: int
    nulls: Mapping[str, int]


def staged_files(paths: LakehousePaths, contract: TableContract, folder: str) -> list[StagedFile]:
    """The Parquet files below a folder of a table, sorted by path.

    Args:
        folder: relative to the table.
    """
    store = store_of(paths.table(contract.name))
    found = store.files(folder, suffix=".parquet")
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda file: _staged(store, file, contract), found))


def statistics_columns(contract: TableContract) -> list[str]:
    """Columns whose smallest and largest values the log states; none with text, which vacuum would leave in the log."""
    return [c.name for c in contract.columns if c.type in STATISTICS_TYPES and c.name not in contract.partitions]


def _staged(store: Store, file: StoredFile, contract: TableContract) -> StagedFile:
    footer = pq.read_metadata(store.full(file.path), filesystem=store.system)
    least, most, nulls = dict[str, Any](), dict[str, Any](), dict[str, int]()
    unknown: set[str] = set()
    for name, statistics in _column_statistics(footer):
        if statistics is None or statistics.null_count is None:
            unknown.add(name)
            continue
        nulls[name] = nulls.get(name, 0) + statistics.null_count
        if statistics.has_min_max:
            least[name] = min(least.get(name, statistics.min), statistics.min)
            most[name] = max(most.get(name, statistics.max), statistics.max)
        elif statistics.num_values:  # values without bounds, such as doubles with NaN
            unknown.add(name)
    known = [name for name in statistics_columns(contract) if name not in unknown and name in nulls]
    stats = {
        "numRecords": footer.num_rows,
        "minValues": {name: _text(least[name], up=False) for name in known if name in least},
        "maxValues": {name: _text(most[name], up=True) for name in known if name in most},
        "nullCount": {name: nulls[name] for name in known},
    }
    add = AddAction(
        path=file.path,
        size=file.size,
        partition_values=dict(_values(file.path, contract)),
        modification_time=int(file.modified.timestamp() * 1000),
        data_change=True,
        stats=json.dumps(stats),
    )
    return StagedFile(add=add, rows=footer.num_rows, nulls=nulls)


def _column_statistics(footer: pq.FileMetaData) -> Iterator[tuple[str, Any]]:
    """Name and statistics of every plain column of every row group."""
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            if "." not in column.path_in_schema:
                yield column.path_in_schema, column.statistics


def _values(path: str, contract: TableContract) -> Iterator[tuple[str, str | None]]:
    stated = dict(part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
    for name in contract.partitions:
        value = stated[name]
        yield name, None if value == _NULL else unquote(value.replace("~", "%"))


def _text(value: Any, *, up: bool) -> Any:
    """A bound as the log states it: times are rounded outwards to milliseconds, which is all that readers expect."""
    if isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        rest = utc.microsecond % 1000
        outwards = utc + timedelta(microseconds=(1000 - rest) if up and rest else -rest)
        return outwards.strftime("%Y-%m-%dT%H:%M:%S.") + f"{outwards.microsecond // 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
