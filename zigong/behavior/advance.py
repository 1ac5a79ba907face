"""Incremental timelines: update an older state with new events, or build the timelines of selected users only.

A state holds every version that was known before some instant S. Events known later change it in exactly two ways:
they add versions, and they supersede the version of the same event that was valid until then, whichever user it
belonged to.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from zigong.behavior.timeline import sorted_timeline, user_timelines

_HASH, _KEY = "_hash", "_key"


def advanced_timelines(state: DataFrame, arrived: DataFrame, timezone: str) -> DataFrame:
    """The timelines of everything in ``state`` and ``arrived`` together.

    Args:
        state: user_timelines of everything known before an instant S.
        arrived: behavior_events known at or after S. It is read several times, so cache or checkpoint it.
        timezone: business time zone of the months.

    Returns:
        The columns and rows of ``user_timelines`` over both.
    """
    added = user_timelines(arrived, timezone).select("user_id", F.struct("user_bucket", "timeline").alias("added"))
    joined = (
        state.select("user_id", "user_bucket", "timeline")
        .join(_superseded(state, arrived), "user_id", "left")
        .join(added, "user_id", "full_outer")
    )
    merged = F.concat(
        F.coalesce(_closed(F.col("timeline"), F.col("closed")), F.array()),
        F.coalesce("added.timeline", F.array()),
    )
    return joined.select(
        "user_id",
        F.coalesce("user_bucket", "added.user_bucket").alias("user_bucket"),
        sorted_timeline(merged).alias("timeline"),
    )


def timelines_of(events: DataFrame, users: DataFrame, timezone: str) -> DataFrame:
    """``user_timelines`` of selected users only, without shuffling the events of other users.

    A version that belongs to another user may supersede one of theirs, so all versions of every event that was ever
    theirs are read.

    Args:
        events: behavior_events, complete histories.
        users: column user_id; small enough to broadcast, as are the hashes of their events.
        timezone: business time zone of the months.
    """
    chosen = F.broadcast(users.select("user_id"))
    hashed = events.withColumn(_HASH, F.xxhash64("source", "event_id"))
    theirs = F.broadcast(hashed.join(chosen, "user_id", "left_semi").select(_HASH).distinct())
    # Read three times; the checkpoint holds only the events of these users.
    versions = hashed.join(theirs, _HASH, "left_semi").drop(_HASH).localCheckpoint()
    return user_timelines(versions, timezone).join(chosen, "user_id", "left_semi")


def _superseded(state: DataFrame, arrived: DataFrame) -> DataFrame:
    """For each user of ``state``, a map from the names of the versions ``arrived`` supersedes to when they end."""
    first = arrived.groupBy(F.concat_ws("\t", "source", "event_id").alias(_KEY)).agg(
        F.min("known_at").alias("superseded_at")
    )
    # The hashes of the new events are broadcast, 8 bytes each, so no event of the state is shuffled.
    hashes = F.broadcast(first.select(F.xxhash64(_KEY).alias(_HASH)))
    valid = F.filter("timeline", lambda version: version["superseded_at"].isNull())
    names = state.select("user_id", F.explode(F.transform(valid, lambda version: version["name"])).alias("name"))
    keyed = names.withColumn(_KEY, _key_of(F.col("name"))).withColumn(_HASH, F.xxhash64(_KEY))
    ended = keyed.join(hashes, _HASH, "left_semi").join(first, _KEY, "inner")
    return ended.groupBy("user_id").agg(
        F.map_from_entries(F.collect_list(F.struct("name", "superseded_at"))).alias("closed")
    )


def _key_of(name: Column) -> Column:
    """Source and event_id of a ``version_name``: the part before its last tab."""
    return F.substring(name, F.lit(1), F.length(name) - F.length(F.substring_index(name, "\t", -1)) - 1)


def _closed(timeline: Column, closed: Column) -> Column:
    """A timeline with superseded_at set for the versions in ``closed``; unchanged where ``closed`` is null."""
    ended = F.transform(
        timeline,
        lambda version: version.withField(
            "superseded_at", F.coalesce(version["superseded_at"], F.try_element_at(closed, version["name"]))
        ),
    )
    return F.when(closed.isNull(), timeline).otherwise(ended)
