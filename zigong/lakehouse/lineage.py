"""The lineage of published rows, recorded in their commits, and what has changed in a table since a version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow.fs import FileType

from zigong.lakehouse.paths import LakehousePaths

SAME_ROWS = {"OPTIMIZE", "VACUUM START", "VACUUM END"}  # operations that change no row


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What rows were built from; recorded in the userMetadata of the commit that published them.

    Attributes:
        method: digest of everything, except the inputs, that determines the rows.
        inputs: version of every table read.
        dates: ISO dates whose rows are, after the commit, exactly the result of ``method`` on ``inputs``.
        population: whose rows they are, in a table that keeps those of several populations.
    """

    method: str
    inputs: Mapping[str, int] = field(default_factory=dict)
    dates: tuple[str, ...] = ()
    population: str = ""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The partition values of a file, as strings from the Delta log."""

    values: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, **values: object) -> Partition:
        """The partition with these values."""
        return cls(values=tuple(sorted((name, str(value)) for name, value in values.items())))

    def __getitem__(self, name: str) -> str:
        return dict(self.values)[name]


def lineages(paths: LakehousePaths, table: str, version: int) -> Iterator[Lineage]:
    """The lineages valid for a version, newest first; they end at a commit without one, such as an erasure."""
    for entry in DeltaTable(paths.table(table)).history():
        if entry["version"] > version or entry["operation"] in SAME_ROWS:
            continue
        stated = json.loads(entry.get("userMetadata") or "{}").get("lineage")
        if not stated:
            return
        yield Lineage(**{**stated, "dates": tuple(stated["dates"])})


def lineage_by_date(paths: LakehousePaths, table: str, version: int, population: str) -> dict[str, Lineage]:
    """The newest lineage of every date of a population that has one in a version."""
    found: dict[str, Lineage] = {}
    for lineage in lineages(paths, table, version):
        for day in lineage.dates if lineage.population == population else ():
            found.setdefault(day, lineage)
    return found


def changed_partitions(paths: LakehousePaths, table: str, before: int, after: int) -> frozenset[Partition]:
    """The partitions whose files differ between two versions; the same rows in other files count as changed."""
    if before == after:
        return frozenset()
    old, new = _files(paths, table, before), _files(paths, table, after)
    return frozenset({**old, **new}[path] for path in old.keys() ^ new.keys())


def is_readable(paths: LakehousePaths, table: str, version: int, partitions: frozenset[Partition]) -> bool:
    """Whether the files of some partitions of an old version still exist: maintenance may have removed them."""
    wanted = [path for path, partition in _files(paths, table, version).items() if partition in partitions]
    files = DeltaTable(paths.table(table), version=version).to_pyarrow_dataset().filesystem.get_file_info(wanted)
    return all(info.type == FileType.File for info in files)


def rows_in(paths: LakehousePaths, table: str, version: int) -> int:
    """Number of rows of a version, from the Delta log."""
    return sum(row["num_records"] for row in _actions(paths, table, version))


def newest_instant(paths: LakehousePaths, table: str, version: int, column: str) -> datetime | None:
    """The largest value of a timestamp column by the Delta statistics; None where a file has no statistics."""
    values: list[datetime | None] = [row.get(f"max.{column}") for row in _actions(paths, table, version)]
    known = [value for value in values if value is not None]
    return max(known, default=None) if len(known) == len(values) else None


def _files(paths: LakehousePaths, table: str, version: int) -> dict[str, Partition]:
    return {row["path"]: _partition(row) for row in _actions(paths, table, version)}


def _actions(paths: LakehousePaths, table: str, version: int) -> list[dict[str, Any]]:
    opened = DeltaTable(paths.table(table), version=version)
    rows: list[dict[str, Any]] = pa.table(opened.get_add_actions(flatten=True)).to_pylist()
    return rows


def _partition(row: Mapping[str, Any]) -> Partition:
    prefix = "partition."
    return Partition.of(**{key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)})
