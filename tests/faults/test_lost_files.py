"""A table whose files were lost: a night names them, a whole delivery replaces the table."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from deltalake import DeltaTable

from tests.support.shop import GOOD, TABLES, Shop
from zigong.runs.dates import Dates


def test_a_night_names_lost_files_and_a_whole_delivery_brings_the_rows_again(shop: Shop) -> None:
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
