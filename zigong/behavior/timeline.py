"""What was known as of T: one sorted array of event versions per user, and one filter over it.

A version of an event holds from its known_at until the next version of the same event becomes known. So as of T an
event is there exactly when its newest version with known_at < T is an upsert with event_at < T; equal instants are
out. Validity is a property of the log alone, hence one array per user serves every T.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from zigong.lakehouse.business_time import local_date, month_of

_KEY_HASH = "_key_hash"
_EVENT_FIELDS = ("event_type", "event_at", "known_at", "amount", "currency", "days_past_due", "attributes")


def user_timelines(events: DataFrame, timezone: str) -> DataFrame:
    """Every upsert version of every user in one array, in the order (event_at, known_at, source, event_id).

    Args:
        events: behavior_events, whole histories of the users in it.
        timezone: business time zone of the months.

    Returns:
        user_id, user_bucket, timeline: array of structs of event (event_type, event_at, known_at, amount, currency,
        days_past_due, attributes: as user_sequences has it), name (``version_name``), superseded_at (null: still
        valid), month (of event_at, as ``business_time.month_of``).
    """
    # By user_id alone: joins on user_id that follow then meet rows where they lie, and shuffle no history again.
    rows = _versions(events, timezone).repartition("user_id").sortWithinPartitions("user_id", *_order(F.col("version")))
    # Spark compiles the sorting of rows, and interprets that of arrays of structs. An aggregate promises no order, so
    # each row carries its place, and an array that was collected in another order is sorted after all.
    placed = rows.select("user_id", "user_bucket", F.monotonically_increasing_id().alias("place"), "version")
    collected = placed.groupBy("user_id").agg(
        F.first("user_bucket").alias("user_bucket"), F.collect_list(F.struct("place", "version")).alias("rows")
    )
    places, timeline = F.col("rows.place"), F.col("rows.version")
    ordered = F.when(places == F.sort_array(places), timeline).otherwise(in_order(timeline))
    return collected.select("user_id", "user_bucket", ordered.alias("timeline"))


def _versions(events: DataFrame, timezone: str) -> DataFrame:
    """A row per upsert version: user_id, user_bucket, version."""
    version = F.struct(
        F.struct(*_EVENT_FIELDS).alias("event"),
        version_name().alias("name"),
        "superseded_at",
        month_of(local_date(F.col("event_at"), timezone)).alias("month"),
    )
    # The struct is made in a projection of its own, which Spark compiles; inside the aggregate it would interpret it.
    return _with_validity(events).where("op = 'upsert'").select("user_id", "user_bucket", version.alias("version"))


def in_order(timeline: Column) -> Column:
    """A timeline in its order; quick where it consists of few ordered runs.

    By the fields that tell versions apart: a version as a whole has no order, since maps have none.
    """

    def compared(one: Column, other: Column) -> Column:
        first, second = F.struct(*_order(one)), F.struct(*_order(other))
        return F.when(first < second, -1).when(first > second, 1).otherwise(0)

    return F.array_sort(timeline, compared)


def _order(version: Column) -> tuple[Column, ...]:
    return version["event"]["event_at"], version["event"]["known_at"], version["name"]


def _with_validity(events: DataFrame) -> DataFrame:
    """Adds superseded_at: the known_at of the next version of the same event, null for the newest.

    A correction may move an event to another user, so validity is found before users are told apart. Most events have
    one version: only those whose key hash occurs again are sorted; a false friend among the hashes is sorted in vain.
    The hashes of the corrected events travel to every worker, 8 bytes each.
    """
    hashed = events.withColumn(_KEY_HASH, F.xxhash64("source", "event_id"))
    repeated = F.broadcast(hashed.groupBy(_KEY_HASH).count().where("count > 1").select(_KEY_HASH))
    in_order = Window.partitionBy(_KEY_HASH, "source", "event_id").orderBy("known_at")
    corrected = hashed.join(repeated, _KEY_HASH, "left_semi")
    final = hashed.join(repeated, _KEY_HASH, "left_anti")
    return final.withColumn("superseded_at", F.lit(None).cast("timestamp")).unionByName(
        corrected.withColumn("superseded_at", F.lead("known_at").over(in_order))
    )


def version_name() -> Column:
    """Source, event_id and microseconds of known_at; between versions of equal instants it sorts as these three do."""
    return F.concat_ws("\t", "source", "event_id", F.unix_micros("known_at").cast("string"))


def with_points(timelines: DataFrame, points: DataFrame) -> DataFrame:
    """The columns of ``timelines`` once per row of ``points`` of the same user_id, beside the other columns of points.

    The points of a user travel as one array, so the join meets every timeline once and shuffles no event per T. They
    leave it by an explode, past which Spark moves no expression: what is computed in ``points`` is computed once, and
    not again for every event that a filter compares with it.
    """
    names = [name for name in points.columns if name != "user_id"]
    by_user = points.groupBy("user_id").agg(F.collect_list(F.struct(*names)).alias("points"))
    joined = timelines.join(by_user, on="user_id", how="inner")
    return joined.select(*timelines.columns, F.inline("points").alias(*names))


def as_of(timeline: Column, observation_at: Column) -> Column:
    """The versions of a timeline that were known and had happened before T, in their order."""
    return F.filter(timeline, lambda version: _holds(version, observation_at))


def any_as_of(timeline: Column, observation_at: Column) -> Column:
    """Whether ``as_of`` is not empty; it stops at the first version found."""
    return F.exists(timeline, lambda version: _holds(version, observation_at))


def _holds(version: Column, observation_at: Column) -> Column:
    return (
        (version["event"]["known_at"] < observation_at)
        & (version["superseded_at"].isNull() | (version["superseded_at"] >= observation_at))
        & (version["event"]["event_at"] < observation_at)
    )


def of_types(history: Column, event_types: Iterable[str]) -> Column:
    """The versions of a history whose event_type is one of ``event_types``."""
    types = list(event_types)
    return F.filter(history, lambda version: version["event"]["event_type"].isin(types))


def newest(history: Column) -> Column:
    """The last version of a history, null when it is empty."""
    return F.try_element_at(history, F.lit(-1))


def distinct_months(history: Column) -> Column:
    """The number of distinct calendar months in which the events of a history lie."""
    return F.size(F.array_distinct(F.transform(history, lambda version: version["month"])))


def stated_days_past_due(outcomes: Column) -> Column:
    """The days past due that the last outcome event with such a statement gives; null without one."""
    stating = F.filter(outcomes, lambda version: version["event"]["days_past_due"].isNotNull())
    return newest(stating)["event"]["days_past_due"]
