"""Finds the users and observation points that a change between two table versions affects.

Rows are compared by content, so a file that was rewritten with the same rows affects nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.lakehouse.business_time import local_midnight
from zigong.lakehouse.row_text import row_text

_DIGEST, _SIDE = "_digest", "_side"
ALWAYS = datetime(1900, 1, 1)  # a change that every T sees


def differing_rows(before: DataFrame, after: DataFrame, *, at_most: int) -> DataFrame | None:
    """The rows that are in only one of the frames, once per occurrence; None when more than ``at_most`` differ.

    Only digests of 16 bytes are shuffled; the few that differ are broadcast to the rows.
    """
    sides = [
        frame.withColumn(_DIGEST, F.unhex(F.md5(row_text(frame.dtypes).cast("binary")))) for frame in (before, after)
    ]
    signed = [side.select(_DIGEST, F.lit(sign).alias(_SIDE)) for side, sign in zip(sides, (-1, 1), strict=True)]
    sums = signed[0].unionByName(signed[1]).groupBy(_DIGEST).agg(F.sum(_SIDE).alias(_SIDE))
    unequal = sums.where(F.col(_SIDE) != 0).select(_DIGEST).localCheckpoint()
    if unequal.count() > at_most:
        return None
    found = [side.join(F.broadcast(unequal), _DIGEST, "left_semi").drop(_DIGEST) for side in sides]
    return found[0].unionByName(found[1])


def users_of_changes(changed: DataFrame, events: DataFrame) -> DataFrame:
    """The users whose timelines differ, with the earliest instant after which a T may see the difference.

    Args:
        changed: rows of behavior_events that are in only one of the two versions.
        events: the current behavior_events. Every user who ever had a version of a changed event is affected, because
            that version may now be valid for a longer or shorter time.

    Returns:
        user_id, changed_at.
    """
    keys = changed.groupBy("source", "event_id").agg(F.min("known_at").alias("changed_at"))
    holders = events.select("source", "event_id", "user_id").join(F.broadcast(keys), ["source", "event_id"], "inner")
    named = changed.select("user_id", F.col("known_at").alias("changed_at"))
    return _earliest(named.unionByName(holders.select("user_id", "changed_at")))


def users_always(changed: DataFrame) -> DataFrame:
    """The users of changed rows that every T may see, such as profile rows; columns as in ``users_of_changes``."""
    return _earliest(changed.select("user_id", F.lit(ALWAYS).alias("changed_at")))


def touched_points(users: DataFrame, points: DataFrame, days: Sequence[date], timezone: str) -> DataFrame:
    """The observation points at which a change is visible.

    Args:
        users: user_id, changed_at; small enough to broadcast.
        points: user_id, observation_date, user_bucket, both as published and as expected now; may hold duplicates.
        days: the observation dates to consider.
        timezone: business time zone.

    Returns:
        user_id, observation_date, user_bucket, without duplicates.
    """
    seen = points.where(F.col("observation_date").isin(list(days))).join(F.broadcast(users), "user_id", "inner")
    reached = seen.where(F.col("changed_at") < local_midnight(F.col("observation_date"), timezone))
    return reached.select("user_id", "observation_date", "user_bucket").distinct()


def _earliest(users: DataFrame) -> DataFrame:
    return users.groupBy("user_id").agg(F.min("changed_at").alias("changed_at"))
