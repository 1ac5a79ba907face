"""Observation points: which user or loan is eligible at which T, and why the others are not.

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
    loans_of,
    newest,
    of_loan,
    of_types,
    worst_open_arrears,
)
from zigong.errors import DataError
from zigong.lakehouse.business_time import local_midnight, month_of
from zigong.recipe import Cohort, Unit

NO_LOAN = ""  # loan_id of a point of a user, and of the outcome events that name no loan
_SPINE = ("observation_date", "observation_at")
_CARRIED = ("user_id", "user_bucket", *_SPINE)


def observation_points(
    timelines: DataFrame,
    *,
    dates: Sequence[date],
    timezone: str,
    cohort: Cohort,
    mapping: SourceMapping,
    population: str,
    unit: Unit = "user",
    source: str | None = None,
) -> DataFrame:
    """The observation points of every T, in the columns of observation_points.

    With the unit ``user``, one row per user and T with at least one event known as of T. With the unit ``loan``, one
    row per loan that an event known as of T names; outcome events that name no loan have a row of their own, with an
    empty loan_id, which is not eligible.

    Credit history means outcome events: a login or an order is behaviour, but carries no information on how a loan
    performs. So months_of_history counts the calendar months with a known outcome event, and the state of every
    loan is taken from its last known outcome events: whether the last one closed it, and the last days past due
    reported. The state of a user is that of the open loans: loan_open if there is one, days_past_due of the worst.
    A point of a loan takes all of these from the events of that loan.

    reason is the first that applies: loan_unknown, no_history (no outcome event known), short_history, stale,
    loan_closed, in_arrears.

    Args:
        timelines: user_timelines, complete up to the last T.
        dates: observation dates; T is their local midnight.
        timezone: business time zone.
        cohort: the eligibility rules.
        mapping: defines the outcome and closing event types.
        population: digest of what is observed, see ``recipe.population``.
        unit: who is observed.
        source: the source of the outcome events; None: the timelines have one source.
    """
    # T is a constant of the exploded row: computed once, not for every event it is compared with.
    points = [F.struct(F.lit(day), local_midnight(F.lit(day), timezone)) for day in dates]
    spine = timelines.select("*", F.inline(F.array(*points)).alias(*_SPINE))
    histories = spine.where(any_as_of(F.col("timeline"), F.col("observation_at"))).select(
        *_CARRIED, as_of(F.col("timeline"), F.col("observation_at")).alias("history")
    )
    outcomes = histories.withColumn("outcomes", of_types(F.col("history"), mapping.outcome_events, source)).select(
        *_CARRIED,
        F.lit(population).alias("population"),
        F.size("history").alias("events_known"),
        newest(F.col("history"))["event"]["event_at"].alias("last_event_at"),
        "outcomes",
        (F.array(F.lit(NO_LOAN)) if unit == "user" else _observed_loans()).alias("observed"),
    )
    observed = outcomes.select("*", F.explode("observed").alias("loan_id"))
    if unit == "loan":
        observed = observed.withColumn("outcomes", of_loan(F.col("outcomes"), F.nullif("loan_id", F.lit(NO_LOAN))))
    return _with_reason(_states(observed, mapping), cohort, unit)


def require_loans(timelines: DataFrame, mapping: SourceMapping) -> None:
    """Refuses a source that names no loan at all, since there would be nothing to observe.

    Raises:
        DataError: no event names a loan.
    """
    if timelines.where(F.exists("timeline", lambda version: version["loan_id"].isNotNull())).isEmpty():
        raise DataError(
            f"observations.unit is loan, but no event of source {mapping.name} names a loan",
            action=f"fill loan_key in the events of source mapping {mapping.origin}, or set observations.unit: user",
        )


def _observed_loans() -> Column:
    """The loans of a history, and an empty one where outcome events name none."""
    unnamed = F.exists("outcomes", lambda version: version["loan_id"].isNull())
    loans = F.array_compact(loans_of(F.col("history")))
    return F.when(unnamed, F.array_append(loans, F.lit(NO_LOAN))).otherwise(loans)


def _states(observed: DataFrame, mapping: SourceMapping) -> DataFrame:
    """The as-of features of a point: the only inputs of the cohort rules."""
    known = observed.withColumn("states", loan_states(F.col("outcomes"), mapping.closing_events))
    return known.select(
        *_CARRIED,
        "population",
        "loan_id",
        distinct_months(F.col("outcomes")).alias("months_of_history"),
        "events_known",
        newest(F.col("outcomes"))["event"]["event_type"].alias("last_event_type"),
        "last_event_at",
        F.coalesce(worst_open_arrears(F.col("states")), F.lit(0)).alias("days_past_due"),
        F.exists("states", lambda state: state["is_open"]).alias("loan_open"),
        (month_of(F.col("observation_date")) - newest(F.col("outcomes"))["month"]).alias("months_since_last_outcome"),
    )


def _with_reason(states: DataFrame, cohort: Cohort, unit: Unit) -> DataFrame:
    reason = _reason(cohort, unit)
    return states.withColumn("reason", reason).select(
        "population",
        "user_id",
        "loan_id",
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


def _reason(cohort: Cohort, unit: Unit) -> Column:
    """The first cohort rule that excludes a point, null when none does."""
    unknown = F.lit(unit == "loan") & (F.col("loan_id") == NO_LOAN)
    reason = F.when(unknown, "loan_unknown").when(F.col("months_of_history") == 0, "no_history")
    reason = reason.when(F.col("months_of_history") < cohort.min_history_months, "short_history")
    if cohort.max_months_since_last_event is not None:
        reason = reason.when(F.col("months_since_last_outcome") > cohort.max_months_since_last_event, "stale")
    if cohort.open_loan:
        reason = reason.when(~F.col("loan_open"), "loan_closed")
    if cohort.max_days_past_due is not None:
        reason = reason.when(F.col("days_past_due") > cohort.max_days_past_due, "in_arrears")
    return reason
