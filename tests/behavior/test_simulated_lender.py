"""The simulated lender is independent of partitioning, contains every kind of error, and has a predictable future."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import load_mapping
from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points
from zigong.behavior.simulate import simulate_lender
from zigong.behavior.sources.ingest import deduplicated, events_from, read_raw, rejected_rows
from zigong.behavior.timeline import user_timelines
from zigong.recipe import Cohort, Horizon, Simulation

KEY = b"a-key-for-these-tests-only"
SIMULATION = Simulation(users=600, first_month=date(2023, 1, 1), months=12)
DIVISIONS = ("spark.sql.leafNodeDefaultParallelism", "spark.sql.shuffle.partitions")


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lender")
    simulate_lender(spark, SIMULATION, seed=3, folder=str(folder))
    return folder


@pytest.fixture(scope="module")
def events(spark: SparkSession, folder: Path) -> DataFrame:
    mapping = load_mapping("simulated")
    raw = read_raw(spark, mapping, str(folder))
    assert rejected_rows(raw, mapping, KEY).count() == 0
    events = events_from(spark, raw, mapping, key=KEY, buckets=4, timezone="Asia/Shanghai")
    return deduplicated(events).kept.localCheckpoint()


def contents(spark: SparkSession, folder: Path) -> list[list[str]]:
    frames = [spark.read.parquet(f"{folder}/{name}.parquet") for name in ("events", "profiles")]
    return [sorted(row[0] for row in frame.select(F.to_json(F.struct("*"))).collect()) for frame in frames]


@pytest.mark.soak
def test_rows_do_not_depend_on_how_spark_partitions_the_work(spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    before = {name: spark.conf.get(name, None) for name in DIVISIONS}
    try:
        for name, parts in zip(DIVISIONS, (7, 5), strict=True):
            spark.conf.set(name, parts)
        simulate_lender(spark, SIMULATION, seed=3, folder=str(tmp_path))
    finally:
        for name, value in before.items():
            spark.conf.unset(name) if value is None else spark.conf.set(name, value)
    assert contents(spark, tmp_path) == contents(spark, folder)


def test_another_seed_gives_different_rows(spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    simulate_lender(spark, SIMULATION, seed=4, folder=str(tmp_path))
    ours, theirs = contents(spark, folder)[0], contents(spark, tmp_path)[0]
    assert len(set(ours) & set(theirs)) < 0.01 * len(ours)


def test_the_platform_receives_late_duplicate_wrong_and_retracted_events(spark: SparkSession, folder: Path) -> None:
    received = spark.read.parquet(f"{folder}/events.parquet")
    rows = received.count()
    assert 0.005 < 1 - received.distinct().count() / rows < 0.02
    assert 0.01 < received.where("known_at > event_at + INTERVAL 20 HOURS").count() / rows < 0.08
    assert received.where("known_at <= event_at").count() == 0
    assert received.where("op = 'retract'").count() > 10
    corrected = (
        received.where("event_type = 'statement'").groupBy("event_key").agg(F.countDistinct("days_past_due").alias("n"))
    )
    assert corrected.where("n > 1").count() > 20


def test_the_future_depends_on_the_past(events: DataFrame) -> None:
    mapping, timezone = load_mapping("simulated"), "Asia/Shanghai"
    cohort = Cohort(min_history_months=3, max_months_since_last_event=1, max_days_past_due=29)
    dates = [date(2023, month, 1) for month in (5, 7, 9)]
    timelines = user_timelines(events, timezone).localCheckpoint()
    points = observation_points(
        timelines, dates=dates, timezone=timezone, cohort=cohort, mapping=mapping, population="c1"
    ).localCheckpoint()
    labels = performance_labels(
        timelines,
        points,
        horizons=[Horizon(window_months=3, dpd_threshold=30)],
        reporting_lag_days=2,
        as_of_date=date(2024, 1, 5),
        timezone=timezone,
        mapping=mapping,
        label_settings="h1",
    )
    known = labels.where("outcome != 'indeterminate'").join(points, on=["user_id", "observation_at"])
    (rates,) = known.select(
        F.avg((F.col("outcome") == "bad").cast("int")).alias("all"),
        F.avg(F.when(F.col("days_past_due") > 0, (F.col("outcome") == "bad").cast("int"))).alias("in_arrears"),
        F.count("*").alias("known"),
    ).collect()
    assert rates["known"] > 600
    assert 0.06 < rates["all"] < 0.18
    assert rates["in_arrears"] > 2.5 * rates["all"]


@pytest.fixture(scope="module")
def stressed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What happens in each month of the first loan of clients with hidden risk and, half of them, several loans."""
    folder = tmp_path_factory.mktemp("stressed")
    enriched = SIMULATION.model_copy(
        update={"users": 1500, "several_loans": 0.5, "hidden_risk": 2.0, "profile_drift": 3.0}
    )
    simulate_lender(spark, enriched, seed=3, folder=str(folder))
    rows = pd.read_parquet(folder / "events.parquet").drop_duplicates("event_key")
    rows["loan"] = rows["loan_key"].str[-1].astype(int)
    rows["what"] = rows["event_type"].where(rows["event_type"] != "repayment", "paid_" + rows["loan"].astype(str))
    rows["month"] = 12 * rows["event_at"].dt.year + rows["event_at"].dt.month
    months = rows.pivot_table(index=["user_key", "month"], columns="what", values="event_at", aggfunc="min")
    missed = rows[(rows["event_type"] == "instalment_missed") & (rows["loan"] == 1)]
    known = set(zip(missed["user_key"], missed["month"], strict=True))
    months["misses_soon"] = [any((user, month + ahead) in known for ahead in (2, 3)) for user, month in months.index]
    months.attrs["profiles"] = pd.read_parquet(folder / "profiles.parquet")
    return months[months["paid_1"].notna()]


def test_stress_shows_in_the_order_of_draw_and_payment_and_of_two_loans_and_not_in_counts(
    stressed: pd.DataFrame,
) -> None:
    draws = stressed[stressed["cash_draw"].notna()]
    first = draws["cash_draw"] < draws["paid_1"]
    assert draws.loc[first, "misses_soon"].mean() > 2 * draws.loc[~first, "misses_soon"].mean() > 0
    two = stressed[stressed["paid_2"].notna()]
    newest_first = two["paid_2"] < two["paid_1"]
    assert two.loc[newest_first, "misses_soon"].mean() > 2 * two.loc[~newest_first, "misses_soon"].mean() > 0
    drawn = stressed["cash_draw"].notna()
    assert abs(drawn[stressed["misses_soon"]].mean() - drawn[~stressed["misses_soon"]].mean()) < 0.05


def test_half_of_the_clients_have_several_loans_and_jobs_drift_with_the_date_of_opening(
    stressed: pd.DataFrame,
) -> None:
    with_two = stressed["paid_2"].notna().groupby("user_key").any()
    assert 0.3 < with_two.mean() < 0.5  # some of the second loans open after the last month, or are never paid
    profiles = stressed.attrs["profiles"].drop_duplicates("user_key")
    late = profiles["valid_from"] >= pd.Timestamp(2023, 5, 1, tz="UTC")
    retired = profiles["job"] == "retired"
    assert retired[late].mean() > retired[~late].mean() + 0.1
