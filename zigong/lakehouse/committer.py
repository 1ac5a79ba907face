"""The one committer: engines stage rows, and this adds their files to a table and takes the replaced ones away.

A commit goes through delta-rs to exactly the version after the one that was judged; if that version has been made by
somebody else, everything that depends on it is judged again. A local disk and an object store with conditional writes
give the same guarantee, so Spark itself never commits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import RemoveAction, Transaction

from schemas.contracts import TableContract
from zigong.errors import ConflictError, DataError
from zigong.files.stores import store_of
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.cells import LiveFile
from zigong.lakehouse.commits import commit_metadata, metadata_text
from zigong.lakehouse.fence import Basis, require_unchanged
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staged_files import StagedFile
from zigong.lakehouse.staging import Stage

ATTEMPTS = 20  # a lost race means that somebody else has committed, and a commit takes milliseconds
_RECENT = 50  # commits among which one's own is looked for after a race that seems lost


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a commit does to the version it was judged on.

    Attributes:
        added: files to add.
        removed: files to take away.
    """

    added: Sequence[StagedFile]
    removed: Sequence[LiveFile] = ()


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A commit to be made.

    Attributes:
        stage: the stage whose files it adds; by its id the commit is known as one's own.
        cells: what it replaces; for messages.
        metadata: its userMetadata, to which ``stage`` is added.
        basis: published rows that the added ones depend on.
        attempt: the attempt of the run that makes it.
        token_of: what the attempt's token orders: of two commits with the same text, one with a smaller token is
            refused; empty: nothing.
    """

    stage: Stage
    cells: str
    metadata: Mapping[str, Any]
    basis: Basis | None = None
    attempt: Attempt | None = None
    token_of: str = ""


def commit(intent: Intent, judged: Callable[[DeltaTable], Change]) -> int | None:
    """Makes one commit.

    Args:
        judged: the change, for the version that is opened; asked again after each lost race.

    Returns:
        The version; None where nothing is added or taken away, so that there is nothing to commit.

    Raises:
        StaleRowsError: another writer changed the basis.
        ConflictError: a later attempt of the run took over, or other writers kept winning.
        DataError: staged files have been removed.
    """
    paths, contract = intent.stage.paths, intent.stage.contract
    for _ in range(ATTEMPTS):
        opened = DeltaTable(paths.table(contract.name))
        version = int(opened.version())
        if intent.basis is not None:
            require_unchanged(paths, intent.basis, table=contract.name, cells=intent.cells, version=version)
        change = judged(opened)
        if not change.added and not change.removed:
            return None
        _require_staged(paths, contract, change.added)
        _require_first(opened, intent)
        intent.stage.may_be_committed = True
        try:
            _write(opened, contract, intent, change)
        except (CommitFailedError, DeltaError, OSError) as lost:
            conflict = str(lost).splitlines()[0]
            found = _own_version(paths, contract, intent)  # a store may have made it and lost its answer
            if found is not None:
                return found
            # What a store was told before its answer got lost may still arrive: then maintenance decides.
            intent.stage.may_be_committed = not (paths.is_local or isinstance(lost, CommitFailedError))
            if not isinstance(lost, CommitFailedError):
                raise
        else:
            return version + 1
    raise ConflictError(
        f"table {contract.name}, rows with {intent.cells}: {ATTEMPTS} attempts lost to other writers: {conflict}",
        action="wait for the other run to end, then rerun with the same run id",
    )


def _write(opened: DeltaTable, contract: TableContract, intent: Intent, change: Change) -> None:
    now = int(time.time() * 1000)
    removed = [RemoveAction(file.path, True, now, file.size, file.partition) for file in change.removed]
    tokens = [Transaction(intent.token_of, intent.attempt.token)] if intent.attempt and intent.token_of else None
    opened.create_write_transaction(
        [*(file.add for file in change.added), *removed],
        mode="append",
        schema=opened.schema(),
        partition_by=list(contract.partitions),
        commit_properties=CommitProperties(
            custom_metadata={"userMetadata": metadata_text({**intent.metadata, "staged": intent.stage.id})},
            max_commit_retries=0,
            app_transactions=tokens,
        ),
    )


def _require_first(opened: DeltaTable, intent: Intent) -> None:
    """Refuses the commit of an attempt whose run a later one has taken over, however long this one has slept."""
    if intent.attempt is None:
        return
    intent.attempt.require_held()
    if not intent.token_of:
        return
    seen = opened.transaction_version(intent.token_of)
    if seen is not None and seen > intent.attempt.token:
        raise ConflictError(
            f"table {intent.stage.contract.name}, rows with {intent.cells}: attempt {seen} of run "
            f"{intent.metadata['run_id']} has taken over from attempt {intent.attempt.token}, whose commit was refused",
            action="wait for the other process to end; nothing of this attempt was published",
        )


def _require_staged(paths: LakehousePaths, contract: TableContract, files: Sequence[StagedFile]) -> None:
    lost = store_of(paths.table(contract.name)).missing([file.add.path for file in files])
    if lost:
        raise DataError(
            f"table {contract.name}: {len(lost)} of {len(files)} staged files do not exist any more, first {lost[0]}",
            action="nothing was published; run the step again with the same run id, and look for what removes files "
            "below lakehouse.root other than `zigong maintain` and `zigong erase`",
        )


def _own_version(paths: LakehousePaths, contract: TableContract, intent: Intent) -> int | None:
    for entry in DeltaTable(paths.table(contract.name)).history(_RECENT):
        if commit_metadata(entry).get("staged") == intent.stage.id:
            return int(entry["version"])
    return None


def require_no_nulls(contract: TableContract, files: Sequence[StagedFile]) -> None:
    """Refuses rows without a required value: nothing enforces it when files are added.

    Raises:
        DataError: there are such rows.
    """
    for column in contract.columns:
        found = sum(file.nulls.get(column.name, 0) for file in files) if column.required else 0
        if found:
            raise DataError(
                f"table {contract.name}: {found:,} rows have no {column.name}, which the contract requires",
                action="add a rule that quarantines such rows, or mend the step that builds them",
            )


def rows_of(files: Sequence[StagedFile]) -> int:
    """Number of rows in files."""
    return sum(file.rows for file in files)
