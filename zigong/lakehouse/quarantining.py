"""Quarantines rows with their reasons: staged as they are found, committed together as those of one table and run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.committer import rows_of
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.replacing import replace_cells
from zigong.lakehouse.replayed import QUARANTINE, with_former_replays
from zigong.lakehouse.staged_files import StagedFile
from zigong.lakehouse.staging import Stage, new_stage


class Refusing:
    """The refused rows of one table and run, a context: what was added and not committed is removed in the end."""

    def __init__(
        self,
        spark: SparkSession,
        paths: LakehousePaths,
        *,
        table: str,
        run_id: str,
        step: str,
        attempt: Attempt | None = None,
        rules_version: str | None = None,
    ) -> None:
        """Names the rows.

        Args:
            table: the table, or the files, that they were meant for.
            attempt: the attempt of the run; its right to publish is checked again after each lost race.
            rules_version: of the rules they break; by default that of the table's contract.
        """
        self._spark, self._paths, self._table, self._run_id, self._step = spark, paths, table, run_id, step
        self._attempt = attempt or Attempt()
        self._rules_version = rules_version
        self._at = datetime.now(UTC)
        self._stage: Stage | None = None
        self._files: list[StagedFile] = []
        self._parts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._stage is not None:
            self._stage.close()

    def add(self, rows: DataFrame) -> int:
        """Stages rows (columns ``reasons array<string>`` and ``payload string``, JSON without raw ids).

        Returns:
            Their number.
        """
        if self._stage is None:
            create_if_missing(self._paths, table_contract(QUARANTINE))
            self._stage = new_stage(self._paths, QUARANTINE, run_id=self._run_id, token=self._attempt.token)
        self._parts += 1
        part = f"part-{self._parts}"
        self._stage.write(self._entries(rows), part)
        files = self._stage.files(part)
        self._files += files
        return rows_of(files)

    def commit(self) -> None:
        """Replaces the run's quarantined rows of the table by those that were added; nothing was added: no commit."""
        if self._stage is None or not self._files:
            return
        replace_cells(
            self._spark,
            self._stage,
            self._files,
            cells=f"table_name = '{self._table}' AND run_id = '{self._run_id}'",
            metadata={"run_id": self._run_id, "step": self._step},
            attempt=replace(self._attempt, token=0),  # a step may quarantine rows of one table more than once
        )

    def _entries(self, rows: DataFrame) -> DataFrame:
        named = rows.select(
            F.lit(self._table).alias("table_name"),
            F.lit(self._run_id).alias("run_id"),
            "reasons",
            "payload",
            F.lit(self._rules_version or table_contract(self._table).rules_version).alias("rules_version"),
            F.lit(self._at).alias("quarantined_at"),
            F.lit(None).cast("string").alias("replayed_by"),
        )
        return with_former_replays(named, self._paths, self._table)
