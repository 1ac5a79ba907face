"""The Delta log without Spark: creates contracted tables, finds the commits of a run, writes small driver-side rows.

delta-rs takes milliseconds where a Spark job takes seconds.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError
from pyspark.sql.types import StructField, StructType

from schemas.contracts import TableContract, table_contract
from zigong.errors import ConflictError, DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staged_files import statistics_columns
from zigong.lakehouse.tables import require_columns

COMMIT_ATTEMPTS = 3


def create_if_missing(paths: LakehousePaths, contract: TableContract, *, append_only: bool = False) -> None:
    """Creates a table with the columns, nullability and partitions of its contract, for both Spark and delta-rs.

    Args:
        append_only: whether Delta rejects changes and deletions of rows.

    Raises:
        DataError: the table exists and lacks a column of the contract, or has one of another type.
    """
    path = paths.table(contract.name)
    if DeltaTable.is_deltatable(path):
        _require_contract(contract, DeltaTable(path).schema())
        return
    # No statistics on strings: the Delta log would keep 32 characters of them, which VACUUM does not remove.
    DeltaTable.create(
        path,
        schema=Schema.from_json(table_schema(contract).json()),
        mode="ignore",
        partition_by=list(contract.partitions),
        configuration={
            "delta.enableDeletionVectors": "false",
            "delta.checkpointPolicy": "classic",
            "delta.enableExpiredLogCleanup": "false",  # a run reads its pinned versions at any age
            "delta.dataSkippingStatsColumns": ",".join(statistics_columns(contract)),
            **({"delta.appendOnly": "true"} if append_only else {}),
        },
    )
    if contract.restricted and paths.is_local:  # in an object store this is up to the policy of the bucket
        Path(path).chmod(stat.S_IRWXU)


def _require_contract(contract: TableContract, schema: Schema) -> None:
    found = StructType.fromJson(json.loads(schema.to_json()))
    require_columns(contract.name, found.names, contract.column_names)
    others = [c.name for c in contract.columns if found[c.name].dataType.simpleString() != c.type]
    if others:
        raise DataError(
            f"table {contract.name}: columns {', '.join(others)} have another type than the contract states: the table "
            "was written under an older contract",
            action="run `zigong migrate`, or rebuild the lakehouse under another lakehouse.root; user_timelines is a "
            "cache and may be deleted instead",
        )


class StaleRowsError(ConflictError):
    """Rows were computed from published rows that another writer has changed since: compute them again."""


def make_commit(write: Callable[[], None], *, table: str, cells: str, attempts: int = COMMIT_ATTEMPTS) -> None:
    """Makes one commit of rows that do not depend on published rows, so a lost race is simply retried.

    Raises:
        ConflictError: other writers kept winning.
    """
    for _ in range(attempts):
        try:
            return write()
        except CommitFailedError as error:
            conflict = str(error).splitlines()[0]
    raise ConflictError(
        f"table {table}, rows with {cells}: {attempts} attempts lost to other writers: {conflict}",
        action="wait for the other run to end, then rerun with the same run id",
    )


def replace_rows(
    paths: LakehousePaths, table: str, rows: Sequence[Mapping[str, Any]], *, where: str, metadata: Mapping[str, Any]
) -> None:
    """Replaces the rows that match ``where`` with a small number of driver-side rows, in one commit."""
    contract = table_contract(table)
    create_if_missing(paths, contract)
    schema = pa.schema(DeltaTable(paths.table(table)).schema().to_arrow())
    columns = {name: [row[name] for row in rows] for name in contract.column_names}

    def write() -> None:
        write_deltalake(
            paths.table(table),
            pa.table(columns, schema=schema),
            mode="overwrite",
            predicate=where,
            commit_properties=CommitProperties(custom_metadata={"userMetadata": metadata_text(metadata)}),
        )

    make_commit(write, table=table, cells=where)


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """The canonical JSON of userMetadata."""
    return json.dumps(metadata, sort_keys=True)


def commit_metadata(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The userMetadata of an entry of a table's history; empty where the commit has none."""
    known: dict[str, Any] = json.loads(entry.get("userMetadata") or "{}")
    return known


def own_commits(paths: LakehousePaths, table: str, run_id: str) -> list[dict[str, Any]]:
    """The commits of a run in a table, newest first: userMetadata and ``version``."""
    found = []
    for entry in DeltaTable(paths.table(table)).history():
        known = commit_metadata(entry)
        if known.get("run_id") == run_id:
            found.append({**known, "version": entry["version"]})
    return found


def table_schema(contract: TableContract) -> StructType:
    """Columns, types and nullability of a contract; Spark parses the types, so a session has to be open."""
    required = {column.name: column.required for column in contract.columns}
    parsed = StructType.fromDDL(contract.ddl)
    return StructType([StructField(f.name, f.dataType, nullable=not required[f.name]) for f in parsed.fields])
