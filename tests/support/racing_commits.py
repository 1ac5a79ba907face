"""Commits of one process in a race: ``python -m tests.support.racing_commits ROOT NAME COMMITS``."""

from __future__ import annotations

import sys
from functools import partial

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import parquet

from schemas.contracts import table_contract
from zigong.files.stores import store_of
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.committer import Change, Intent, commit
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staged_files import StagedFile
from zigong.lakehouse.staging import new_stage

TABLE = "verdicts"


def race(paths: LakehousePaths, name: str, commits: int) -> list[int]:
    """Adds one file of one row with each commit; returns the versions that it was told to have made."""
    contract, versions = table_contract(TABLE), list[int]()
    create_if_missing(paths, contract)
    row = {column.name: None for column in contract.columns if column.name not in contract.partitions}
    schema = pa.schema(DeltaTable(paths.table(TABLE)).schema().to_arrow())
    store = store_of(paths.table(TABLE))
    for number in range(commits):
        stage = new_stage(paths, TABLE, run_id=f"{name}-{number}", token=1)
        folder = f"{stage.folder}/rows/run_id={name}-{number}"
        store.system.create_dir(store.full(folder), recursive=True)
        rows = pa.Table.from_pylist([row], schema=pa.schema([schema.field(key).with_nullable(True) for key in row]))
        parquet.write_table(rows, store.full(f"{folder}/part.parquet"), filesystem=store.system)
        files = stage.files("rows")
        intent = Intent(stage=stage, cells=f"run_id = '{name}-{number}'", metadata={"run_id": name})
        version = commit(intent, partial(_adding, files))
        assert version is not None
        versions.append(version)
    return versions


def _adding(files: list[StagedFile], _: DeltaTable) -> Change:
    return Change(added=files)


if __name__ == "__main__":
    root, name, commits = sys.argv[1:]
    sys.stdout.write(" ".join(map(str, race(LakehousePaths.at(root), name, int(commits)))))
