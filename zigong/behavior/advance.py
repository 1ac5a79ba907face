"""Timelines without the whole log: an older state moved on by new events, and the timelines of some users alone.

A state holds every version that was known before some instant S. Whatever becomes known later changes it in two ways
only: it adds versions, and it supersedes the version of the same event that held until then, whoever's it was.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from zigong.behavior.timeline import in_order, user_timelines

_HASH, _KEY = "_hash", "_key"


def advanced_timelines(state: DataFrame, arrived: DataFrame, timezone: str) -> DataFrame:
    """The timelines of everything in ``state`` and ``arrived`` together.

    Args:
        state: user_timelines of everything known before an instant S.
        arrived: behavior_events known from S on. It is read several times: keep it at hand.
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
        in_order(merged).alias("timeline"),
    )


def timelines_of(events: DataFrame, users: DataFrame, timezone: str) -> DataFrame:
    """``user_timelines`` of some users alone, without a shuffle of anybody else's events.

    Another user's version may supersede one of theirs, so every version of every event that ever was theirs is used.

    Args:
        events: behavior_events, whole histories.
        users: column user_id; few enough to travel to every worker, as the hashes of their events do.
        timezone: business time zone of the months.
    """
    chosen = F.broadcast(users.select("user_id"))
    hashed = events.withColumn(_HASH, F.xxhash64("source", "event_id"))
    theirs = F.broadcast(hashed.join(chosen, "user_id", "left_semi").select(_HASH).distinct())
    # Read three times; the checkpoint holds only what these users' events are.
    versions = hashed.join(theirs, _HASH, "left_semi").drop(_HASH).localCheckpoint()
    return user_timelines(versions, timezone).join(chosen, "user_id", "left_semi")


def _superseded(state: DataFrame, arrived: DataFrame) -> DataFrame:
    """Per user of ``state`` a map from the names of versions that ``arrived`` supersedes to the instants they end."""
    first = arrived.groupBy(F.concat_ws("\t", "source", "event_id").alias(_KEY)).agg(
        F.min("known_at").alias("superseded_at")
    )
    # The hashes of what arrived travel to every worker, 8 bytes each: no event of the state is shuffled for them.
    hashes = F.broadcast(first.select(F.xxhash64(_KEY).alias(_HASH)))
    valid = F.filter("timeline", lambda version: version["superseded_at"].isNull())
    names = state.select("user_id", F.explode(F.transform(valid, lambda version: version["name"])).alias("name"))
    keyed = names.withColumn(_KEY, _key_of(F.col("name"))).withColumn(_HASH, F.xxhash64(_KEY))
    ended = keyed.join(hashes, _HASH, "left_semi").join(first, _KEY, "inner")
    return ended.groupBy("user_id").agg(
        F.map_from_entries(F.collect_list(F.struct("name", "superseded_at"))).alias("closed")
    )


def _key_of(name: Column) -> Column:
    """Source and event_id of a ``version_name``: what stands before its last tab."""
    return F.substring(name, F.lit(1), F.length(name) - F.length(F.substring_index(name, "\t", -1)) - 1)


def _closed(timeline: Column, closed: Column) -> Column:
    """A timeline with the new ends of its versions; the others keep theirs. Untouched where nothing ended."""
    ended = F.transform(
        timeline,
        lambda version: version.withField(
            "superseded_at", F.coalesce(version["superseded_at"], F.try_element_at(closed, version["name"]))
        ),
    )
    return F.when(closed.isNull(), timeline).otherwise(ended)
