"""A bank that delivers its events and clients night by night to the real ingest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from jobs.ingest_events import ingest_events
from tests.support.finished import REPOSITORY, TINY
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.dates import Dates
from zigong.runs.job import runs_folder
from zigong.runs.launch import run_step
from zigong.runs.run import Outcome, open_run

MAPPING = """
name: bank
data: public
title: bank
files:
  bookings:
    path: bookings.csv
    format: csv
    columns:
      CLIENT: {type: string, identifier: true}
      BOOKING: {type: string, required: true, identifier: true}
      AT: {type: timestamp}
      KIND: {type: string, required: true}
      AMOUNT: {type: "decimal(18,2)"}
      KNOWN: {type: timestamp}
  clients:
    path: clients.csv
    format: csv
    columns:
      CLIENT: {type: string, required: true, identifier: true}
      SINCE: {type: timestamp, required: true}
      CITY: {type: string, required: true}
events: >
  SELECT CLIENT AS user_key, BOOKING AS event_key, CAST(NULL AS STRING) AS loan_key, 'upsert' AS op,
    KIND AS event_type, AT AS event_at, AMOUNT AS amount, 'EUR' AS currency, 0 AS days_past_due,
    CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM bookings
profiles: >
  SELECT CLIENT AS user_key, SINCE AS valid_from, SINCE AS known_at, CLIENT AS person_key,
    map('city', CITY) AS attributes
  FROM clients
known_at: {lag: INTERVAL 0 SECONDS}
outcome_events: [payment]
attributes: {city: code}
max_refused_share: 1
"""
_DATE = "{yyyy}{mm}{dd}"
BY_ARRIVAL = (
    MAPPING.replace("path: bookings.csv", f"path: bookings\n    arrival: bookings_{_DATE}")
    .replace("path: clients.csv", f"path: clients\n    arrival: clients_{_DATE}")
    .replace("attributes\n  FROM", "attributes, arrived_on\n  FROM")
)
BOOKINGS, CLIENTS = "CLIENT,BOOKING,AT,KIND,AMOUNT,KNOWN", "CLIENT,SINCE,CITY"
Rows = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Bank:
    """A lakehouse of a bank whose business time zone is UTC."""

    home: Path
    mapping: str = MAPPING

    def ingest(self, name: str, bookings: Rows, clients: Rows = (), *, night: date | None = None) -> Outcome:
        """Ingests one delivery, of a night or of everything, under a run id of its own."""
        folder = self.home / "landing" / name
        folder.mkdir(parents=True)
        for file, header, rows in (("bookings.csv", BOOKINGS, bookings), ("clients.csv", CLIENTS, clients)):
            (folder / file).write_text("\n".join((header, *rows)) + "\n")
        return self.read(name, folder, night=night)

    def read(self, name: str, folder: Path, *, night: date | None = None) -> Outcome:
        """Ingests a folder."""
        recipe = load_recipe(TINY, self.settings(folder))
        dates = Dates() if night is None else Dates(first=night, end=night + timedelta(days=1))
        return run_step("ingest_events", ingest_events, open_run(recipe, runs_folder(recipe), name), dates)

    def settings(self, folder: Path) -> list[str]:
        """The settings that make tests/tiny.yaml the recipe of this bank."""
        mapping = self.home / "bank.yaml"
        mapping.write_text(self.mapping)
        return [
            f"lakehouse.root={self.home / 'lake'}",
            f"source.path={folder}",
            "source.simulation=null",
            f"source.mapping={mapping}",
            "business_timezone=UTC",
        ]

    def driver(self, run_id: str, folder: Path, *, night: date) -> subprocess.Popen[bytes]:
        """Starts a process of its own that ingests a folder."""
        sets = [argument for setting in self.settings(folder) for argument in ("--set", setting)]
        dates = ["--from-date", str(night), "--to-date", str(night + timedelta(days=1))]
        command = [sys.executable, "-m", "jobs.ingest_events", "--recipe", str(TINY), "--run-id", run_id, *dates, *sets]
        return subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})

    def outcome(self, run_id: str) -> Outcome:
        """The outcome of a run's ingest."""
        recipe = load_recipe(TINY, self.settings(self.home / "landing"))
        outcome = open_run(recipe, runs_folder(recipe), run_id).outcome("ingest_events")
        assert outcome is not None
        return outcome

    def deliver(self, day: date, bookings: Rows, clients: Rows = ()) -> None:
        """Puts the files that arrive on a date into the landing folder that all nights share."""
        for kind, header, rows in (("bookings", BOOKINGS, bookings), ("clients", CLIENTS, clients)):
            file = self.home / "landing" / kind / f"{kind}_{day:%Y%m%d}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join((header, *rows)) + "\n")

    @property
    def paths(self) -> LakehousePaths:
        return LakehousePaths.at(str(self.home / "lake"))

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = arrow_pinned(self.paths, table, latest_version(self.paths, table)).to_pylist()
        return rows

    def amounts(self) -> list[tuple[str, str]]:
        """When every published version became known, and its amount."""
        return sorted((f"{row['known_at']:%m-%d %H:%M}", f"{row['amount']}") for row in self.rows("behavior_events"))

    def amounts_before(self, day: date) -> list[str]:
        """The amounts in the histories as of a date."""
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        newest: dict[str, dict[str, Any]] = {}
        for row in sorted(self.rows("behavior_events"), key=lambda row: row["known_at"]):
            if row["known_at"] < moment:
                newest[row["event_id"]] = row
        return sorted(
            f"{row['amount']}" for row in newest.values() if row["op"] == "upsert" and row["event_at"] < moment
        )

    def cities(self) -> list[tuple[str, str]]:
        """When every published version of a profile became known, and its city."""
        rows = self.rows("user_profiles")
        return sorted((f"{row['known_at']:%m-%d %H:%M}", dict(row["attributes"]).get("city", "-")) for row in rows)
