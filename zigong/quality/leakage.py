"""Verifies user_sequences against event log and profiles, with an algorithm independent of the builder.

The builder filters one sorted array per user; here every point is joined to the event versions known before it, and
SQL windows select the newest version of each event. A mistake in one algorithm shows as a difference.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

RULES = ("certificate_reaches_t", "event_reaches_t", "certificate_differs", "loans_differ", "profile_differs")


def profile_violations(sequences: DataFrame, profiles: DataFrame) -> DataFrame:
    """Rows of user_sequences whose profile is not the newest version that was valid and known before T.

    Args:
        sequences: rows of user_sequences.
        profiles: user_profiles, at the version the sequences were built from.

    Returns:
        Columns as of :func:`leakage_violations`, with rule ``profile_differs``; profiles are described by their times.
    """
    points = sequences.select("user_id", "observation_at").distinct()
    entries = F.sort_array(F.map_entries("attributes")).alias("entries")
    known = points.join(profiles.select("user_id", "valid_from", "known_at", "source", entries), "user_id").where(
        "valid_from < observation_at AND known_at < observation_at"
    )
    order = [F.desc(name) for name in ("valid_from", "known_at", "source", "entries")]
    newest = Window.partitionBy("user_id", "observation_at").orderBy(*order)
    true = known.withColumn("_rank", F.row_number().over(newest)).where("_rank = 1").drop("_rank", "source")
    compared = sequences.join(true, ["user_id", "observation_at"], "left")
    stated = F.sort_array(F.map_entries("profile"))
    empty = F.size("profile") == 0
    same = F.coalesce(stated == F.col("entries"), empty & F.col("entries").isNull())
    return _named(
        "profile_differs",
        compared.where(~same),
        expected=F.coalesce(
            F.concat(F.lit("the version known at "), F.col("known_at").cast("string")), F.lit("no profile")
        ),
        found=F.when(empty, F.lit("no profile")).otherwise(F.lit("another profile")),
    )


def static_profile_share(profiles: DataFrame, events: DataFrame) -> float | None:
    """Share of the clients with a profile who have one version only, known by the time of their first known event.

    If it is 1, nothing shows when the values became known: a snapshot taken at the end looks the same.

    Args:
        profiles: user_profiles; versions without attributes are ignored.
        events: behavior_events of these clients.

    Returns:
        The share; None if no client has a profile.
    """
    versions = profiles.where(F.size("attributes") > 0).groupBy("user_id")
    counted = versions.agg(F.count("*").alias("versions"), F.min("known_at").alias("profile_known_at"))
    first = events.groupBy("user_id").agg(F.min("known_at").alias("first_known_at"))
    early = (F.col("versions") == 1) & (F.col("profile_known_at") <= F.col("first_known_at"))
    (row,) = counted.join(first, "user_id").agg(F.avg(early.cast("int")).alias("share")).collect()
    return None if row["share"] is None else float(row["share"])


def leakage_violations(sequences: DataFrame, events: DataFrame) -> DataFrame:
    """Rows of user_sequences that use data from T or later, or that differ from the log.

    Args:
        sequences: rows of user_sequences of one population.
        events: behavior_events of its source with complete histories, at the version the sequences were built from.

    Returns:
        rule, user_id, loan_id, observation_at, expected, found; empty if every certificate is correct. Rules:
        ``certificate_reaches_t``: the newest event or known_at used is not before T. ``event_reaches_t``: a listed
        event is not before T. ``certificate_differs``: the log as of T has other events. ``loans_differ``: as of T it
        has other loans or another order of them; the numbers of events are compared where none are folded.
    """
    t = F.col("observation_at")
    reaching = sequences.where((F.col("certificate.max_event_at") >= t) | (F.col("certificate.max_known_at") >= t))
    late = F.filter("events", lambda event: (event["event_at"] >= t) | (event["known_at"] >= t))
    listed = sequences.where(F.size(late) > 0)
    compared = sequences.join(_recomputed(sequences, events), ["user_id", "observation_at"], "left")
    stated, true = F.col("certificate").cast(_AS_TEXT), F.col("recomputed").cast(_AS_TEXT)
    differing = compared.where(~stated.eqNullSafe(true))
    numbers = F.when(F.col("counts.folded") == 0, F.col("event_loans"))
    loans = F.to_json(F.struct("loans", "loan", numbers.alias("event_loans")))
    expected = F.to_json(_expected_loans())
    renumbered = compared.where(stated.eqNullSafe(true) & ~loans.eqNullSafe(expected))
    found = (
        _named("certificate_reaches_t", reaching, expected=t.cast("string"), found=_text("certificate")),
        _named("event_reaches_t", listed, expected=t.cast("string"), found=F.to_json(late[0])),
        _named("certificate_differs", differing, expected=_text("recomputed"), found=_text("certificate")),
        _named("loans_differ", renumbered, expected=expected, found=loans),
    )
    return reduce(DataFrame.unionByName, found)


_AS_TEXT = "struct<max_event_at:string,max_known_at:string,events_used:string,events_hash:string>"


def _named(rule: str, rows: DataFrame, *, expected: Column, found: Column) -> DataFrame:
    return rows.select(
        F.lit(rule).alias("rule"),
        "user_id",
        "loan_id",
        "observation_at",
        expected.alias("expected"),
        found.alias("found"),
    )


def _expected_loans() -> Column:
    """The loans, the observed loan and the loan of each event, numbered by the loans' first events in the log."""
    known = F.array_compact(F.array_distinct("loans_in_log"))
    number = F.array_position(known, F.col("loan_id")).cast("int")
    events = F.transform("loans_in_log", lambda loan_id: F.array_position(known, loan_id).cast("int"))
    return F.struct(
        F.size(known).alias("loans"),
        F.when(F.col("loan_id") != "", number).alias("loan"),
        F.when(F.col("counts.folded") == 0, events).alias("event_loans"),
    )


def _text(certificate: str) -> Column:
    return F.to_json(certificate)


def _recomputed(sequences: DataFrame, events: DataFrame) -> DataFrame:
    """The certificate of every point, computed from the log only."""
    points = sequences.select("user_id", "observation_at", F.col("user_id").alias("_of")).distinct()
    named = ["source", "event_id"]
    # An event may have moved between users, so every event that ever belonged to the user is considered.
    theirs = events.select("user_id", *named).distinct().join(points, "user_id")
    known = theirs.select(*named, "_of", "observation_at").join(
        events.select(*named, "known_at", "op", "user_id", "loan_id", "event_at"), named
    )
    newest = Window.partitionBy("_of", "observation_at", *named).orderBy(F.desc("known_at"))
    visible = (
        known.where("known_at < observation_at")
        .withColumn("_rank", F.row_number().over(newest))
        .where("_rank = 1 AND op = 'upsert' AND event_at < observation_at AND user_id = _of")
    )
    name = F.concat_ws("\t", "source", "event_id", F.unix_micros("known_at").cast("string"))
    ordered = F.array_sort(
        F.collect_list(F.struct("event_at", "known_at", "source", "event_id", name.alias("name"), "loan_id"))
    )
    return visible.groupBy(F.col("_of").alias("user_id"), "observation_at").agg(
        F.struct(
            F.max("event_at").alias("max_event_at"),
            F.max("known_at").alias("max_known_at"),
            F.count("*").cast("int").alias("events_used"),
            F.sha2(F.array_join(F.transform(ordered, lambda row: row["name"]), ","), 256).alias("events_hash"),
        ).alias("recomputed"),
        F.transform(ordered, lambda row: row["loan_id"]).alias("loans_in_log"),
    )
