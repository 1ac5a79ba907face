"""Brings a published table to the columns of today's contract: one commit, former versions as they were.

New columns that may be null are added to the schema alone. Renamed and wider ones need the rows again, which Spark
stages and one commit puts in place of all files, together with the new schema.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.exceptions import CommitFailedError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from schemas.compatibility import WIDENINGS
from schemas.contracts import Column, TableContract
from zigong.errors import ConflictError, DataError
from zigong.lakehouse.cells import at_version
from zigong.lakehouse.commits import metadata_text, table_schema
from zigong.lakehouse.committer import rows_of
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staging import Stage, staged

ADDED, RENAMED, WIDENED, LEFT_OUT = "added", "renamed", "widened", "left out"
STEP = "migrate"


@dataclass(frozen=True, kw_only=True)
class ColumnChange:
    """What happens to a column.

    Attributes:
        name: the column in the contract; of one that is left out, in the table.
        how: ``added`` (null in the rows that are there), ``renamed``, ``widened``, or ``left out`` (the contract has it
            no more).
        former: name and type in the table; empty for an added one.
    """

    name: str
    how: str
    former: str = ""


def column_changes(paths: LakehousePaths, contract: TableContract) -> list[ColumnChange]:
    """The differences between the newest version of a table and its contract, in the contract's order.

    A table that only has columns more than its contract needs nothing: they are left alone.

    Raises:
        DataError: a difference that no migration can mend.
    """
    schema = StructType.fromJson(json.loads(DeltaTable(paths.table(contract.name)).schema().to_json()))
    found = {field.name: field.dataType.simpleString() for field in schema}
    changes = [change for column in contract.columns for change in _of_column(contract, column, found)]
    if not any(change.how in {RENAMED, WIDENED} for change in changes):
        return changes
    known = {column.name for column in contract.columns}
    used = {change.former.split(" ")[0] for change in changes if change.how == RENAMED}
    rest = [name for name in found if name not in known | used]
    return changes + [ColumnChange(name=name, how=LEFT_OUT, former=f"{name} {found[name]}") for name in rest]


def migrate(
    spark: SparkSession, paths: LakehousePaths, contract: TableContract, changes: Sequence[ColumnChange]
) -> int:
    """Makes the changes in one commit; returns its version.

    Args:
        changes: those of :func:`column_changes`; at least one.

    Raises:
        ConflictError: another writer has committed meanwhile.
        DataError: rows were lost, or a value does not fit its new type.
    """
    opened = DeltaTable(paths.table(contract.name))
    try:
        if not needs_rows(changes):
            wanted = {field["name"]: field for field in json.loads(table_schema(contract).json())["fields"]}
            opened.alter.add_columns(
                [Field.from_json(json.dumps(wanted[change.name])) for change in changes],
                commit_properties=_properties("", changes),
            )
            return int(DeltaTable(paths.table(contract.name)).version())
        with staged(paths, contract.name, run_id=STEP, token=0) as stage:
            return _rewritten(spark, stage, opened, changes)
    except CommitFailedError as lost:
        raise ConflictError(
            f"table {contract.name}: another writer has committed while it was migrated",
            action="let no job write to the lakehouse, and run the command again",
        ) from lost


def needs_rows(changes: Sequence[ColumnChange]) -> bool:
    """Whether rows have to be written again."""
    return any(change.how != ADDED for change in changes)


def _rewritten(spark: SparkSession, stage: Stage, opened: DeltaTable, changes: Sequence[ColumnChange]) -> int:
    contract, version = stage.contract, int(opened.version())
    rows = at_version(spark, stage.paths, contract.name, version)
    before = rows.count()
    stage.write(_in_new_form(rows, contract, changes), "rows")
    files = stage.files("rows")
    if rows_of(files) != before:
        raise DataError(
            f"table {contract.name}: {before:,} rows were read and {rows_of(files):,} written",
            action="nothing was changed; run the command again, and report this if it recurs",
        )
    stage.may_be_committed = True
    try:
        opened.create_write_transaction(
            [file.add for file in files],
            mode="overwrite",
            schema=Schema.from_json(table_schema(contract).json()),
            partition_by=list(contract.partitions),
            commit_properties=_properties(stage.id, changes),
        )
    except CommitFailedError:
        stage.may_be_committed = False
        raise
    return version + 1


def _in_new_form(rows: DataFrame, contract: TableContract, changes: Sequence[ColumnChange]) -> DataFrame:
    former = {change.name: change.former.split(" ")[0] for change in changes if change.how in {RENAMED, WIDENED}}
    added = {change.name for change in changes if change.how == ADDED}
    return rows.select(
        *(
            (F.lit(None) if column.name in added else F.col(former.get(column.name, column.name)))
            .cast(column.type)
            .alias(column.name)
            for column in contract.columns
        )
    )


def _of_column(contract: TableContract, column: Column, found: dict[str, str]) -> list[ColumnChange]:
    name = column.name if column.name in found else column.former_name
    if name not in found:
        if column.required:
            raise DataError(
                f"table {contract.name}: the contract requires {column.name}, of which the rows that are there have no "
                "value",
                action="build the table again under another lakehouse.root",
            )
        return [ColumnChange(name=column.name, how=ADDED)]
    fits = found[name] == column.type
    if not fits and (found[name], column.type) not in WIDENINGS:
        raise DataError(
            f"table {contract.name}: {name} is {found[name]} and the contract states {column.type}, which not every "
            "value fits",
            action="build the table again under another lakehouse.root",
        )
    former = f"{name} {found[name]}"
    if name != column.name:
        return [ColumnChange(name=column.name, how=RENAMED, former=former)]
    return [] if fits else [ColumnChange(name=column.name, how=WIDENED, former=former)]


def _properties(stage: str, changes: Sequence[ColumnChange]) -> CommitProperties:
    stated = {"step": STEP, "staged": stage, "columns": {change.name: change.how for change in changes}}
    return CommitProperties(custom_metadata={"userMetadata": metadata_text(stated)}, max_commit_retries=0)
