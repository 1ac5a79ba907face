"""On credit_record the cohort and its labels reproduce the published table of counts, row by row."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import load_mapping
from tests.support.public_data import public_data
from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points
from zigong.behavior.sources.ingest import deduplicated, events_from, profiles_from, read_raw, rejected_rows
from zigong.behavior.timeline import user_timelines
from zigong.recipe import Recipe, load_recipe

REPOSITORY = Path(__file__).resolve().parents[2]
DATA, MARKS = public_data("credit_record")
KEY = b"zigong-public-demo-key"

pytestmark = [
    pytest.mark.soak,  # a million rows: minutes
    *MARKS,
]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(REPOSITORY / "recipes" / "credit_record.yaml")


@pytest.fixture(scope="module")
def counts(spark: SparkSession, recipe: Recipe) -> dict[str, tuple[int, ...]]:
    mapping = load_mapping("credit_record")
    raw = read_raw(spark, mapping, str(DATA))
    versions = deduplicated(events_from(spark, raw, mapping, key=KEY, buckets=8, timezone=recipe.business_timezone))
    events = versions.kept.localCheckpoint()
    assert events.count() == 1_048_575
    assert rejected_rows(raw, mapping, KEY).count() == 0
    timelines = user_timelines(events, recipe.business_timezone).localCheckpoint()
    points = observation_points(
        timelines,
        dates=recipe.observations.dates(),
        timezone=recipe.business_timezone,
        cohort=recipe.observations.cohort,
        mapping=mapping,
        population="c1",
        unit=recipe.observations.unit,
    ).localCheckpoint()
    assert timelines.count() == 19_256
    labels = performance_labels(
        timelines,
        points,
        horizons=recipe.labels.horizons,
        reporting_lag_days=recipe.labels.reporting_lag_days,
        as_of_date=recipe.as_of,
        timezone=recipe.business_timezone,
        mapping=mapping,
        label_settings="h1",
    )
    return _by_split(labels, recipe)


def _by_split(labels: DataFrame, recipe: Recipe) -> dict[str, tuple[int, ...]]:
    ranges = {name: getattr(recipe.observations, name) for name in ("train", "validation", "oot")}
    split = F.coalesce(*(F.when(F.col("observation_date").between(r.first, r.last), n) for n, r in ranges.items()))
    counted = labels.groupBy(split.alias("split")).agg(
        F.count("*").alias("eligible"),
        *(F.count_if(F.col("outcome") == outcome).alias(outcome) for outcome in ("bad", "good", "indeterminate")),
        F.countDistinct("loan_id").alias("accounts"),
        F.countDistinct("user_id").alias("persons"),
    )
    return {row["split"]: tuple(row)[1:] for row in counted.collect()}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", (131_628, 6_334, 116_097, 9_197, 16_182, 9_439)),
        ("validation", (10_068, 465, 8_744, 859, 10_068, 7_007)),
        ("oot", (11_295, 599, 9_835, 861, 11_295, 7_876)),
    ],
)
def test_eligible_bad_good_indeterminate_accounts_and_persons_are_exact(
    counts: dict[str, tuple[int, ...]], split: str, expected: tuple[int, ...]
) -> None:
    assert counts[split] == expected


def test_a_client_is_a_person_with_one_profile(spark: SparkSession, recipe: Recipe) -> None:
    mapping = load_mapping("credit_record")
    raw = read_raw(spark, mapping, str(DATA))
    profiles = profiles_from(spark, raw, mapping, key=KEY, timezone=recipe.business_timezone)
    (found,) = profiles.select(F.count("*"), F.countDistinct("user_id"), F.min("valid_from")).collect()
    assert tuple(found)[:2] == (9_728, 9_728)
    words = profiles.select(F.explode("attributes").alias("name", "word")).distinct()
    assert words.where(~F.col("word").rlike("^[a-z0-9_]+$")).count() == 0
    assert date(2015, 1, 1) <= found[2].date()
