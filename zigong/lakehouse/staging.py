"""Rows before they are committed: Parquet below the folder of their own table, which no version names yet.

A commit adds the files where they lie, so that rows are written once. Every publish has a folder of its own,
``staged/RUN/attempt-N/ID``; the commit that adds its files states the ID, so a folder that no commit states belongs to
a publish that is under way or was given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import TableContract, table_contract
from zigong.files.stores import Store, store_of
from zigong.lakehouse.commits import commit_metadata
from zigong.lakehouse.few_files import gathered
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staged_files import StagedFile, staged_files
from zigong.lakehouse.tables import published_tables

STAGED = "staged"  # without an underscore in front: vacuum passes by folders that begin with one
REFUSED, KEPT_ROWS, REFUSED_ROWS = "refused", "refused=false", "refused=true"


@dataclass(kw_only=True)
class Stage:
    """The folder in which one publish writes rows of a table.

    Attributes:
        folder: the folder, relative to the table.
        id: what the commit states.
        may_be_committed: whether a version may name the files, so that they must stay.
    """

    paths: LakehousePaths
    contract: TableContract
    folder: str
    id: str
    may_be_committed: bool = False

    @property
    def uri(self) -> str:
        """The folder as Arrow addresses it."""
        return f"{self.paths.table(self.contract.name)}/{self.folder}"

    def write(self, rows: DataFrame, part: str, *, refused: Column | None = None) -> None:
        """Writes rows with the columns of the contract to ``part``, a folder of this stage, partitioned as their table.

        Args:
            refused: which rows go to ``part/refused=true``; the others go to ``part/refused=false`` then.
        """
        listed = [*([] if refused is None else [refused.alias(REFUSED)]), *self.contract.column_names]
        by = [*([] if refused is None else [REFUSED]), *self.contract.partitions]
        chosen = gathered(rows.select(*listed), by) if self.contract.partitions else rows.select(*listed)
        named = chosen.withColumns({name: _in_path(F.col(name)) for name in self.contract.partitions})
        silent = {"mapreduce.fileoutputcommitter.marksuccessfuljobs": "false"}
        named.write.options(**silent).partitionBy(*by).parquet(self.paths.spark_uri(f"{self.uri}/{part}"))

    def files(self, part: str) -> list[StagedFile]:
        """The files of a part with rows, and the number of their rows, by their footers."""
        return [file for file in staged_files(self.paths, self.contract, f"{self.folder}/{part}") if file.rows]

    def read(self, spark: SparkSession, part: str) -> DataFrame:
        """The rows of a part, in the columns of the contract."""
        if not self._store.files(f"{self.folder}/{part}", suffix=".parquet"):
            return spark.createDataFrame([], self.contract.ddl)
        written = spark.read.parquet(self.paths.spark_uri(f"{self.uri}/{part}"))
        types = {column.name: column.type for column in self.contract.columns}
        return written.select(
            *(
                _from_path(F.col(name)).cast(types[name]).alias(name) if name in self.contract.partitions else name
                for name in self.contract.column_names
            )
        )

    def discard(self, part: str = "") -> None:
        """Removes a part, or everything."""
        self._store.remove_folder("/".join(filter(None, (self.folder, part))))

    def close(self) -> None:
        """Removes what is not committed: a rerun stages again, and a full disk needs the space."""
        if not self.may_be_committed:
            self.discard()

    @property
    def _store(self) -> Store:
        return store_of(self.paths.table(self.contract.name))


def new_stage(paths: LakehousePaths, table: str, *, run_id: str, token: int) -> Stage:
    """A stage that nobody else writes to; who makes it closes it."""
    name = uuid4().hex[:16]
    folder = f"{STAGED}/{run_id}/attempt-{token:06d}/{name}"
    return Stage(paths=paths, contract=table_contract(table), folder=folder, id=name)


@contextmanager
def staged(paths: LakehousePaths, table: str, *, run_id: str, token: int) -> Iterator[Stage]:
    """A new stage, closed in the end."""
    stage = new_stage(paths, table, run_id=run_id, token=token)
    try:
        yield stage
    finally:
        stage.close()


def _in_path(value: Column) -> Column:
    """A partition value as a part of a path; neither Delta nor delta-rs has to encode what is left of it."""
    encoded = F.url_encode(value.cast("string"))
    for sign, code in (("%", "~"), ("+", "~20"), ("*", "~2A")):
        encoded = F.replace(encoded, F.lit(sign), F.lit(code))
    return encoded


def _from_path(value: Column) -> Column:
    return F.url_decode(F.replace(value, F.lit("~"), F.lit("%")))


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A stage whose files no commit has added.

    Attributes:
        token: the attempt's; 0: it has none.
        newest: when its newest file was written.
        folder: relative to the table.
    """

    run_id: str
    token: int
    newest: datetime
    files: int
    folder: str


def remove_former_staging(paths: LakehousePaths, run_id: str, token: int) -> None:
    """Removes what killed attempts of a run have left staged."""
    for table in published_tables(paths):
        for leftover in leftovers(paths, table, run_id):
            if leftover.token < token:
                remove_leftover(paths, table, leftover)


def leftovers(paths: LakehousePaths, table: str, run_id: str | None = None) -> list[Leftover]:
    """The stages of a table, or of one run in it, that no commit states: under way, or given up."""
    store = store_of(paths.table(table))
    runs = [f"{STAGED}/{run_id}"] if run_id else store.folders(STAGED)
    found = []
    for folder in (stage for run in runs for attempt in store.folders(run) for stage in store.folders(attempt)):
        files, (run, attempt) = store.files(folder, suffix=".parquet"), folder.split("/")[1:3]
        newest = max((file.modified for file in files), default=datetime.now(UTC))
        token = int(attempt.rpartition("-")[2])
        found.append(Leftover(run_id=run, token=token, newest=newest, files=len(files), folder=folder))
    if not found:
        return []
    # Read after the folders were listed: what is committed meanwhile is stated here.
    stated = {commit_metadata(entry).get("staged") for entry in DeltaTable(paths.table(table)).history()}
    return [leftover for leftover in found if leftover.folder.rpartition("/")[2] not in stated]


def remove_leftover(paths: LakehousePaths, table: str, leftover: Leftover) -> None:
    """Removes the files of an attempt that has ended; one that works could still commit them."""
    store_of(paths.table(table)).remove_folder(leftover.folder)
