"""Performance labels: good, bad or indeterminate, for every observed client and every horizon of the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.behavior.observation import NO_LOAN
from zigong.behavior.timeline import (
    as_of,
    distinct_months,
    loan_states,
    of_loan,
    of_types,
    with_points,
    worst_open_arrears,
)
from zigong.lakehouse.business_time import local_midnight
from zigong.recipe import Horizon


def performance_labels(
    timelines: DataFrame,
    points: DataFrame,
    *,
    horizons: Sequence[Horizon],
    reporting_lag_days: int,
    as_of_date: date,
    timezone: str,
    mapping: SourceMapping,
    label_settings: str,
    source: str | None = None,
) -> DataFrame:
    """One row per eligible point and horizon, in the columns of performance_labels.

    The window is [T, T + window_months) in local calendar months. max_days_past_due is the largest value that an
    outcome event in the window reports, or the value carried into it: of the last ones reported before T for each loan
    that is open at T, the largest. Both are read as known before ``as_of_date``: a label records what is true, not what
    was known at T.

    The point of a loan reads the events of that loan alone, that of a client those of all its loans.

    bad: max_days_past_due reaches the threshold. Otherwise indeterminate: fewer calendar months than the window covers
    have an outcome event (the client left the portfolio, or the window is not over). Otherwise good.

    Args:
        timelines: user_timelines, complete up to ``as_of_date``.
        points: observation_points; only eligible ones are labelled.
        horizons: windows (months) and thresholds (days past due).
        reporting_lag_days: local days from the end of the window until a label is mature.
        as_of_date: events known at or after its local midnight are ignored.
        timezone: business time zone.
        mapping: defines the outcome and closing event types.
        label_settings: digest of horizons and lag, see ``recipe.population``.
        source: the source of the outcome events; None: the timelines have one source.
    """
    known = timelines.select(
        "user_id",
        as_of(F.col("timeline"), local_midnight(F.lit(as_of_date), timezone)).alias("timeline"),
    )
    outcomes = known.select("user_id", of_types(F.col("timeline"), mapping.outcome_events, source).alias("outcomes"))
    windows = with_points(outcomes, _windows(points, horizons, reporting_lag_days, timezone))
    of_point = F.when(F.col("loan_id") == NO_LOAN, F.col("outcomes")).otherwise(
        of_loan(F.col("outcomes"), F.col("loan_id"))
    )
    observed = windows.withColumn("outcomes", of_point).withColumn("label_settings", F.lit(label_settings))
    return _with_outcome(observed, mapping.closing_events).withColumn("as_of_date", F.lit(as_of_date))


def _windows(points: DataFrame, horizons: Sequence[Horizon], reporting_lag_days: int, timezone: str) -> DataFrame:
    """One row per eligible point and horizon: when the window closes and when its label is mature."""
    pairs = [F.struct(F.lit(item.window_months), F.lit(item.dpd_threshold)) for item in horizons]
    spine = points.where("eligible").select(
        "population",
        "user_id",
        "loan_id",
        "observation_at",
        "observation_date",
        F.inline(F.array(*pairs)).alias("window_months", "dpd_threshold"),
    )
    end_date = F.add_months("observation_date", F.col("window_months"))
    return spine.select(
        "*",
        local_midnight(end_date, timezone).alias("closes_at"),
        local_midnight(F.date_add(end_date, reporting_lag_days), timezone).alias("matured_at"),
    )


def _with_outcome(windows: DataFrame, closing_events: Sequence[str]) -> DataFrame:
    """Adds what is observed in each window and the resulting outcome."""
    opens, closes = F.col("observation_at"), F.col("closes_at")
    before = F.filter("outcomes", lambda version: version["event"]["event_at"] < opens)
    inside = F.filter(
        "outcomes",
        lambda version: (version["event"]["event_at"] >= opens) & (version["event"]["event_at"] < closes),
    )
    carried = worst_open_arrears(loan_states(before, closing_events))
    seen = windows.withColumn("carried", carried).withColumn("inside", inside)
    outcome = (
        F.when(F.col("max_days_past_due") >= F.col("dpd_threshold"), "bad")
        .when(F.col("months_observed") < F.col("window_months"), "indeterminate")
        .otherwise("good")
    )
    measured = seen.withColumn(
        "max_days_past_due", F.greatest("carried", F.array_max(F.col("inside.event.days_past_due")))
    ).withColumn("months_observed", distinct_months(F.col("inside")))
    return measured.select(
        "population",
        "label_settings",
        "user_id",
        "loan_id",
        "observation_at",
        "window_months",
        "dpd_threshold",
        "max_days_past_due",
        "months_observed",
        outcome.alias("outcome"),
        "matured_at",
        "observation_date",
    )
