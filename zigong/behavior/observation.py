"""Observation points: which user is eligible at which T, and why the others are not.

Nothing here depends on information from T or later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.behavior.timeline import (
    any_as_of,
    as_of,
    distinct_months,
    loan_states,
    newest,
    of_types,
    worst_open_arrears,
)
from zigong.lakehouse.business_time import local_midnight, month_of
from zigong.recipe import Cohort

_SPINE = ("observation_date", "observation_at")


def observation_points(
    timelines: DataFrame, *, dates: Sequence[date], timezone: str, cohort: Cohort, mapping: SourceMapping
) -> DataFrame:
    """One row per user and T with at least one event known as of T, in the columns of observation_points.

    Credit history means outcome events: a login or an order is behaviour, but carries no information on how a loan
    performs. So months_of_history counts the calendar months with a known outcome event, and the state of every
    loan is taken from its last known outcome events: whether the last one closed it, and the last days past due
    reported. The state of a user is that of the open loans: loan_open if there is one, days_past_due of the worst.

    reason is the first that applies: no_history (no outcome event known), short_history, stale, loan_closed,
    in_arrears.

    Args:
        timelines: user_timelines of one source, complete up to the last T.
        dates: observation dates; T is their local midnight.
        timezone: business time zone.
        cohort: the eligibility rules.
        mapping: defines the outcome and closing event types.
    """
    # T is a constant of the exploded row: computed once, not for every event it is compared with.
    points = [F.struct(F.lit(day), local_midnight(F.lit(day), timezone)) for day in dates]
    spine = timelines.select("*", F.inline(F.array(*points)).alias(*_SPINE))
    histories = spine.where(any_as_of(F.col("timeline"), F.col("observation_at"))).select(
        "user_id",
        "user_bucket",
        *_SPINE,
        as_of(F.col("timeline"), F.col("observation_at")).alias("history"),
    )
    outcomes = histories.withColumn("outcomes", of_types(F.col("history"), mapping.outcome_events))
    return _with_reason(_states(outcomes, mapping), cohort)


def _states(outcomes: DataFrame, mapping: SourceMapping) -> DataFrame:
    """The as-of features of a point: the only inputs of the cohort rules."""
    last_type = newest(F.col("outcomes"))["event"]["event_type"]
    known = outcomes.withColumn("states", loan_states(F.col("outcomes"), mapping.closing_events))
    return known.select(
        "user_id",
        "observation_at",
        "user_bucket",
        distinct_months(F.col("outcomes")).alias("months_of_history"),
        F.size("history").alias("events_known"),
        last_type.alias("last_event_type"),
        newest(F.col("history"))["event"]["event_at"].alias("last_event_at"),
        F.coalesce(worst_open_arrears(F.col("states")), F.lit(0)).alias("days_past_due"),
        F.exists("states", lambda state: state["is_open"]).alias("loan_open"),
        "observation_date",
        (month_of(F.col("observation_date")) - newest(F.col("outcomes"))["month"]).alias("months_since_last_outcome"),
    )


def _with_reason(states: DataFrame, cohort: Cohort) -> DataFrame:
    reason = _reason(cohort)
    return states.withColumn("reason", reason).select(
        "user_id",
        "observation_at",
        "user_bucket",
        F.col("reason").isNull().alias("eligible"),
        "reason",
        "months_of_history",
        "events_known",
        "last_event_type",
        "last_event_at",
        "days_past_due",
        "loan_open",
        "observation_date",
    )


def _reason(cohort: Cohort) -> Column:
    """The first cohort rule that excludes a point, null when none does."""
    reason = F.when(F.col("months_of_history") == 0, "no_history")
    reason = reason.when(F.col("months_of_history") < cohort.min_history_months, "short_history")
    if cohort.max_months_since_last_event is not None:
        reason = reason.when(F.col("months_since_last_outcome") > cohort.max_months_since_last_event, "stale")
    if cohort.open_loan:
        reason = reason.when(~F.col("loan_open"), "loan_closed")
    if cohort.max_days_past_due is not None:
        reason = reason.when(F.col("days_past_due") > cohort.max_days_past_due, "in_arrears")
    return reason
