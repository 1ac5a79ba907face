"""The two rows of taiwan with empty fields are quarantined, other clients yield seven events and the source's label."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import SparkSession

from schemas.mappings import load_mapping
from tests.support.public_data import public_data
from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points
from zigong.behavior.sources.ingest import deduplicated, events_from, read_raw, rejected_rows
from zigong.behavior.timeline import user_timelines
from zigong.recipe import Cohort, Horizon

DATA, MARKS = public_data("taiwan")
KEY = b"zigong-public-demo-key"

pytestmark = [*MARKS, pytest.mark.soak]


def test_no_client_is_lost_and_labels_are_the_sources_own(spark: SparkSession) -> None:
    mapping, timezone = load_mapping("taiwan"), "UTC"
    raw = read_raw(spark, mapping, str(DATA))
    rejected = rejected_rows(raw, mapping, KEY).collect()
    assert [row["reasons"] for row in rejected] == [["missing:AGE"], ["missing:AGE"]]
    versions = deduplicated(events_from(spark, raw, mapping, key=KEY, buckets=8, timezone=timezone))
    events = versions.kept.localCheckpoint()
    assert events.count() == 7 * (30_000 - len(rejected))
    assert {row[0] for row in events.select("event_type").distinct().collect()} <= set(mapping.outcome_events)
    timelines = user_timelines(events, timezone).localCheckpoint()
    points = observation_points(
        timelines,
        dates=[date(2005, 10, 1)],
        timezone=timezone,
        cohort=Cohort(min_history_months=6),
        mapping=mapping,
        population="c1",
    ).localCheckpoint()
    labels = performance_labels(
        timelines,
        points,
        horizons=[Horizon(window_months=1, dpd_threshold=30)],
        reporting_lag_days=0,
        as_of_date=date(2005, 11, 1),
        timezone=timezone,
        mapping=mapping,
        label_settings="h1",
    )
    counts = {row["outcome"]: row["count"] for row in labels.groupBy("outcome").count().collect()}
    assert counts == {"bad": 6_636, "good": 30_000 - 2 - 6_636}
