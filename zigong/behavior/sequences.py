"""The time-ordered event history of a user as of T, with a certificate of its input events."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from zigong.behavior.observation import NO_LOAN
from zigong.behavior.timeline import as_of, loans_of, with_points
from zigong.lakehouse.business_time import local_midnight


def user_sequences(
    timelines: DataFrame, profiles: DataFrame, points: DataFrame, *, max_events: int, policy_id: str
) -> DataFrame:
    """One row per eligible point, in the columns of user_sequences.

    At most the ``max_events`` newest events are kept, truncated at a calendar month: a month that does not fit
    completely is dropped. Only if the newest month alone has more events, its newest ``max_events`` are kept. Older
    events are folded: they are counted, and the certificate still covers them.

    The profile is the newest version with valid_from < T and known_at < T, or an empty map. person_id is the unit of
    splits, not a feature: at every T it is taken from the earliest known version that has one, else it is user_id.

    The loans of a client are numbered from 1 in the order of their first events as of T. event_loans has the number of
    each event's loan, null where the event names none; loan has that of the observed loan, null where the client is.

    Args:
        timelines: user_timelines, complete up to the last T.
        profiles: user_profiles.
        points: observation_points.
        max_events: how many of the newest events are kept.
        policy_id: name of the history policy; part of sequence_id.
    """
    users = _with_profiles(timelines, profiles)
    eligible = points.where("eligible").select("population", "user_id", "loan_id", "observation_at", "observation_date")
    histories = with_points(users, eligible).withColumn("history", as_of(F.col("timeline"), F.col("observation_at")))
    folded = _with_known_loans(histories).withColumn("kept", _newest_whole_months(F.col("history"), max_events))
    return folded.select(
        "population",
        _sequence_id(policy_id).alias("sequence_id"),
        "user_id",
        "person_id",
        "loan_id",
        "observation_at",
        _profile_as_of(F.col("profiles"), F.col("observation_at")).alias("profile"),
        F.col("kept.event").alias("events"),
        _event_loans(F.col("kept")).alias("event_loans"),
        F.size("known_loans").alias("loans"),
        F.nullif(_number_of(F.col("loan_id")), F.lit(0)).alias("loan"),
        F.struct(
            F.size("history").alias("events"),
            F.size("kept").alias("kept"),
            (F.size("history") - F.size("kept")).alias("folded"),
        ).alias("counts"),
        _certificate(F.col("history")).alias("certificate"),
        "observation_date",
        "user_bucket",
    )


def timelines_before(timelines: DataFrame, profiles: DataFrame, *, cutoff: date, timezone: str) -> DataFrame:
    """The complete history of every user as of the local midnight of ``cutoff``, for pre-training.

    Args:
        timelines: user_timelines, complete up to ``cutoff``.
        profiles: user_profiles.
        cutoff: events that happened or became known at or after its local midnight are ignored.
        timezone: business time zone.

    Returns:
        user_id, user_bucket, person_id, events, event_loans, loans as in user_sequences; users without a known event
        are left out.
    """
    users = _with_profiles(timelines, profiles)
    known = users.withColumn("history", as_of(F.col("timeline"), local_midnight(F.lit(cutoff), timezone)))
    return _with_known_loans(known.where(F.size("history") > 0)).select(
        "user_id",
        "user_bucket",
        "person_id",
        F.col("history.event").alias("events"),
        _event_loans(F.col("history")).alias("event_loans"),
        F.size("known_loans").alias("loans"),
    )


def _with_known_loans(histories: DataFrame) -> DataFrame:
    """Adds known_loans: the loans that the history names, in the order of their first events."""
    return histories.withColumn("known_loans", F.array_compact(loans_of(F.col("history"))))


def _event_loans(versions: Column) -> Column:
    return F.transform(versions["loan_id"], _number_of)


def _number_of(loan_id: Column) -> Column:
    """The number of a loan among the known ones, from 1; 0 where it is not one of them."""
    return F.array_position(F.col("known_loans"), loan_id).cast("int")


def _with_profiles(timelines: DataFrame, profiles: DataFrame) -> DataFrame:
    """Adds person_id and the sorted profile versions of every user."""
    version = F.struct(
        "valid_from", "known_at", "source", F.sort_array(F.map_entries("attributes")).alias("attributes")
    )
    naming = F.col("person_id").isNotNull()
    by_user = profiles.groupBy("user_id").agg(
        F.sort_array(F.collect_list(version)).alias("profiles"),
        F.min(F.when(naming, F.struct("known_at", "valid_from", "source", "person_id"))).alias("first_person"),
    )
    return timelines.join(by_user, on="user_id", how="left").select(
        *timelines.columns,
        F.coalesce(F.col("first_person.person_id"), F.col("user_id")).alias("person_id"),
        F.coalesce("profiles", F.array()).alias("profiles"),
    )


def _profile_as_of(profiles: Column, observation_at: Column) -> Column:
    known = F.filter(
        profiles,
        lambda version: (version["valid_from"] < observation_at) & (version["known_at"] < observation_at),
    )
    newest = F.try_element_at(known, F.lit(-1))["attributes"]
    return F.coalesce(F.map_from_entries(newest), F.create_map().cast("map<string,string>"))


def _newest_whole_months(history: Column, max_events: int) -> Column:
    """The newest events, truncated at a calendar month; all of them when they fit."""
    newest_left_out = F.try_element_at(history, F.lit(-max_events - 1))["month"]
    whole_months = F.filter(history, lambda version: version["month"] > newest_left_out)
    return (
        F.when(F.size(history) <= max_events, history)
        .when(F.size(whole_months) > 0, whole_months)
        .otherwise(F.slice(history, -max_events, max_events))
    )


def _certificate(history: Column) -> Column:
    """Describes the input of the row: the hash covers every version as of T, ordered, including the folded ones."""
    return F.struct(
        F.array_max(history["event"]["event_at"]).alias("max_event_at"),
        F.array_max(history["event"]["known_at"]).alias("max_known_at"),
        F.size(history).alias("events_used"),
        F.sha2(F.array_join(history["name"], ","), 256).alias("events_hash"),
    )


def _sequence_id(policy_id: str) -> Column:
    instant = F.date_format("observation_at", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
    loan_id = F.nullif("loan_id", F.lit(NO_LOAN))  # a null is skipped
    return F.sha2(F.concat_ws("|", "user_id", loan_id, instant, F.lit(policy_id)), 256)
