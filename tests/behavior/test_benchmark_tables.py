"""German and Australian credit: every client has a profile before T and one outcome after it, and nothing is lost."""

from __future__ import annotations

from datetime import datetime

import pytest
from pyspark.sql import SparkSession

from schemas.mappings import load_mapping
from tests.support.public_data import public_data
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.ingest import deduplicated, events_from, profiles_from, read_raw, rejected_rows

DATA, MARKS = public_data("calm")
KEY = b"zigong-public-demo-key"
T = datetime(2000, 1, 1)

pytestmark = [
    pytest.mark.soak,  # their codes are words of up to 20 columns, and Spark takes minutes over the plan
    *MARKS,
]


@pytest.mark.parametrize(
    ("name", "good", "bad", "features"),
    [("german", 700, 300, 20), ("australian", 307, 383, 14)],
)
def test_every_client_has_a_profile_and_an_outcome_and_an_empty_sequence(
    spark: SparkSession, name: str, good: int, bad: int, features: int
) -> None:
    mapping = load_mapping(name)
    raw = read_raw(spark, mapping, str(DATA))
    assert raw.cells["applicants"].count() == good + bad
    assert rejected_rows(raw, mapping, KEY).count() == 0
    versions = deduplicated(events_from(spark, raw, mapping, key=KEY, buckets=8, timezone="UTC"))
    assert versions.duplicates.count() == versions.conflicting.count() == 0
    outcomes = {row["user_id"]: row for row in versions.kept.collect()}
    assert sum(row["event_type"] == "good_risk" for row in outcomes.values()) == good
    assert sum(row["days_past_due"] == 30 for row in outcomes.values()) == bad
    assert all(row["event_at"] > T for row in outcomes.values())
    profiles = profiles_from(spark, raw, mapping, key=KEY, timezone="UTC").collect()
    assert {row["user_id"] for row in profiles} == outcomes.keys()
    assert len(profiles) == len(outcomes) == good + bad
    assert all(row["valid_from"] < T and row["known_at"] < T for row in profiles)
    assert {len(row["attributes"]) for row in profiles} == {features}


@pytest.mark.parametrize("name", ["german", "australian"])
def test_the_check_has_no_findings(spark: SparkSession, name: str) -> None:
    assert check_source(spark, load_mapping(name), str(DATA), timezone="Asia/Shanghai").findings == ()
