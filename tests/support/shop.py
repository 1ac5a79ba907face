"""A small source whose good and bad deliveries are ingested by the real job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.ingest_events import ingest_events
from tests.support.finished import TINY
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.dates import Dates
from zigong.runs.job import runs_folder
from zigong.runs.launch import run_step
from zigong.runs.run import Outcome, open_run

MAPPING = """
name: shop
data: public
title: shop
files:
  rows:
    path: PATH
    format: FORMAT
    columns:
      ROW: {type: string, required: true}
      CLIENT: {type: string, required: true, identifier: true}
      NUMBER: {type: int, required: true}
      DAY: {type: date, required: true}
      KIND: {type: string, required: true, values: [order, repayment]}
      AMOUNT: {type: "decimal(18,2)", minimum: 0}
      RATE: {type: double}
events: >
  SELECT CLIENT AS user_key, ROW AS event_key, CAST(NULL AS STRING) AS loan_key, 'upsert' AS op, KIND AS event_type,
    CAST(DAY AS TIMESTAMP) AS event_at, SQL_AMOUNT AS amount, 'EUR' AS currency, NUMBER AS days_past_due,
    CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM rows
profiles: >
  SELECT CLIENT AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM (SELECT DISTINCT CLIENT FROM rows)
known_at: {lag: INTERVAL 30 MINUTES}
outcome_events: [repayment]
max_refused_share: 1
"""
HEADER = b"ROW,CLIENT,NUMBER,DAY,KIND,AMOUNT,RATE\n"
GOOD_ROWS = [
    b"g1,anna,1,2023-03-25,order,12.50,0.1",
    b"g2,anna,2,2023-03-25,repayment,12.50,",
    b"g3,b\xc3\xa4r,3,2023-03-26,order,0,",
]
GOOD = HEADER + b"\n".join(GOOD_ROWS) + b"\n"
PARQUET = pa.table(
    {
        "ROW": ["g1", "g2"],
        "CLIENT": ["anna", "berta"],
        "NUMBER": pa.array([1, 2], pa.int32()),
        "DAY": [date(2023, 3, 25), date(2023, 3, 26)],
        "KIND": ["order", "repayment"],
        "AMOUNT": pa.array([Decimal("12.50"), None], pa.decimal128(18, 2)),
        "RATE": [0.1, None],
    }
)
TABLES = ("behavior_events", "user_profiles")
Files = dict[str, bytes]


@dataclass(frozen=True)
class Shop:
    """A lakehouse into which a small source is ingested, once per delivery."""

    home: Path
    root: Path
    runs: Iterator[int]

    def ingest(
        self,
        files: Files,
        path: str,
        *,
        amount: str = "AMOUNT",
        run_id: str | None = None,
        dates: Dates | None = None,
        rerun: bool = False,
    ) -> Outcome:
        """Runs the real job on the files of one delivery."""
        name = run_id or f"delivery-{next(self.runs)}"
        folder = self.home / name
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        form = next(form for form in ("parquet", "json", "delta", "csv") if form in path)
        text = MAPPING.replace("PATH", path).replace("FORMAT", form).replace("SQL_AMOUNT", amount)
        (self.home / f"{name}.yaml").write_text(text)
        overrides = [f"lakehouse.root={self.root}", f"source.path={folder}", "source.simulation=null"]
        recipe = load_recipe(TINY, [*overrides, f"source.mapping={self.home / f'{name}.yaml'}"])
        run = open_run(recipe, runs_folder(recipe), name)
        return run_step("ingest_events", ingest_events, run, dates, rerun=rerun)

    @property
    def paths(self) -> LakehousePaths:
        return LakehousePaths.at(str(self.root))

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = arrow_pinned(self.paths, table, latest_version(self.paths, table)).to_pylist()
        return rows

    def published(self) -> dict[str, tuple[int, list[str]]]:
        """Version and content of the tables, read without Spark."""
        return {name: (latest_version(self.paths, name), sorted(map(str, self.rows(name)))) for name in TABLES}

    def quarantined(self, table: str) -> list[tuple[list[str], dict[str, Any]]]:
        """Reasons and payloads of the newest run."""
        rows = [row for row in self.rows("quarantine") if row["table_name"] == table]
        newest = max((row["quarantined_at"] for row in rows), default=None)
        return [(row["reasons"], json.loads(row["payload"])) for row in rows if row["quarantined_at"] == newest]


def accounted(outcome: Outcome) -> bool:
    return all(
        counts["rows_in"]
        == counts["published"] + counts["quarantined"] + sum(counts["dropped"].values()) + counts["outside"]
        for counts in outcome.tables.values()
    )


def with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)


def parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
