"""Deliveries over what stands: lost files, corrected rows, and a night that is run again."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from tests.support.shop import GOOD, GOOD_ROWS, TABLES, Shop
from zigong.cli import app
from zigong.runs.dates import Dates

pytestmark = pytest.mark.soak


def test_a_night_names_lost_files_and_a_complete_delivery_restores_their_rows(shop: Shop) -> None:
    before = {table: rows for table, (_, rows) in shop.published().items()}
    for table in TABLES:
        for file in DeltaTable(shop.paths.table(table)).file_uris():
            Path(file.removeprefix("file://")).unlink()
    night = Dates(first=date(2023, 3, 25), end=date(2023, 3, 26))
    partial = shop.ingest({"rows.csv": GOOD}, "rows.csv", dates=night)
    assert (partial.kind, partial.code) == ("data", 3)
    assert "table behavior_events: 2 of 2 files of version 1, with 3 rows, do not exist" in partial.message
    whole = shop.ingest({"rows.csv": GOOD}, "rows.csv")
    assert whole.kind == "ok"
    assert [warning.partition(":")[0] for warning in whole.warnings] == ["table behavior_events", "table user_profiles"]
    assert {table: rows for table, (_, rows) in shop.published().items()} == before


def test_corrected_rows_survive_the_next_delivery_of_their_dates(shop: Shop) -> None:
    """The delivery brings the row again as it was; a rerun of the same run does, too."""
    more = b"".join(b"m%d,anna,1,2023-03-26,order,7,0.1\n" % number for number in range(4))
    delivery = GOOD + more + b"bad,anna,-4,2023-03-26,order,7,0.1\n"
    first = shop.ingest({"rows.csv": delivery}, "rows.csv", run_id="first")
    assert (first.kind, first.tables["behavior_events"]["quarantined"]) == ("ok", 1), first.message
    assert len(shop.rows("behavior_events")) == 7
    arguments = ["replay", "behavior_events", "--run-id", "first", "--root", str(shop.root)]
    replayed = CliRunner().invoke(app, ["quarantine", *arguments, "--correct", "days_past_due=abs(days_past_due)"])
    assert replayed.exit_code == 0, replayed.output
    corrected = sorted(map(str, shop.rows("behavior_events")))
    assert len(corrected) == 8
    assert shop.ingest({"rows.csv": delivery}, "rows.csv", run_id="second").kind == "ok"
    assert sorted(map(str, shop.rows("behavior_events"))) == corrected
    again = shop.ingest({"rows.csv": delivery}, "rows.csv", run_id="second", rerun=True)
    assert (again.kind, again.tables["behavior_events"]["published"]) == ("ok", 7)
    assert sorted(map(str, shop.rows("behavior_events"))) == corrected


def test_a_finished_night_that_is_asked_for_again_adds_what_its_files_hold_now(shop: Shop) -> None:
    night = Dates(first=date(2023, 3, 25), end=date(2023, 3, 27))
    more = GOOD.replace(GOOD_ROWS[0] + b"\n", b"g9,anna,1,2023-03-26,order,9,0.1\n")  # and a row is left out
    before = len(shop.rows("behavior_events"))
    for rerun, rows, added in ((False, GOOD, 0), (True, more, 1), (True, more, 1)):
        assert shop.ingest({"rows.csv": rows}, "rows.csv", run_id="night", dates=night, rerun=rerun).kind == "ok"
        assert len(shop.rows("behavior_events")) == before + added
