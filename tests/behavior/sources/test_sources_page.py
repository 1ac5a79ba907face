"""docs/sources.md is correct: its files and its mapping produce the findings and events shown there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from schemas.mappings import load_mapping
from tests.support.finished import REPOSITORY
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.ingest import deduplicated, events_from, profiles_from, read_raw, rejected_rows

KEY = b"a-key-for-these-tests-only"
BLOCK = re.compile(r'^ *```\w+ title="(\S+)"\n(.*?)^ *```$', re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name, text in BLOCK.findall((REPOSITORY / "docs" / "sources.md").read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.soak
def test_the_check_prints_the_output_shown_on_the_page(spark: SparkSession, page: Path) -> None:
    result = check_source(spark, load_mapping(page / "bank.yaml"), str(page), timezone="UTC")
    found = [
        f"{item.section}: {item.column} | {item.problem} | {item.rows} | {', '.join(item.examples)}"
        for item in result.findings
    ]
    assert found == (page / "findings").read_text().splitlines()


def test_every_hint_of_the_page_gives_the_value_it_states(spark: SparkSession, page: Path) -> None:
    hints = [line.strip() for line in (page / "hints.sql").read_text().splitlines()]
    assert len(hints) == 5
    assert {hint: spark.sql(f"SELECT {hint}").first()[0] for hint in hints} == dict.fromkeys(hints, True)


@pytest.mark.soak
def test_ingest_yields_the_events_shown_on_the_page(spark: SparkSession, page: Path) -> None:
    mapping = load_mapping(page / "bank.yaml")
    raw = read_raw(spark, mapping, str(page))
    versions = deduplicated(events_from(spark, raw, mapping, key=KEY, buckets=4, timezone="UTC"))
    events = versions.kept.orderBy("event_at", "event_type").collect()
    lines = [f"{row['event_at']:%Y-%m-%d} {row['event_type']} {row['amount']} {row['days_past_due']}" for row in events]
    assert lines == (page / "events").read_text().splitlines()
    assert {row["user_id"] for row in events} == {
        row["user_id"] for row in profiles_from(spark, raw, mapping, key=KEY, timezone="UTC").collect()
    }
    assert [row["reasons"] for row in rejected_rows(raw, mapping, KEY).collect()] == [["bad_cast:day"]]
