"""Point-in-time histories: one sorted array of event versions per user, and one filter over it.

A version of an event is valid from its known_at until the next version of the same event becomes known. So an event
is part of the history as of T exactly when its newest version with known_at < T is an upsert with event_at < T; both
comparisons are strict. Validity depends only on the log, hence one array per user serves every T.
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
        events: behavior_events, complete histories of the users in it.
        timezone: business time zone of the months.

    Returns:
        user_id, user_bucket, timeline: array of structs of event (event_type, event_at, known_at, amount, currency,
        days_past_due, attributes: as in user_sequences), name (``version_name``), superseded_at (null: still valid),
        month (of event_at, as ``business_time.month_of``), loan_id (null: the event names no loan).
    """
    # Partitioned by user_id only, so that later joins on user_id need no second shuffle of the histories.
    rows = _versions(events, timezone).repartition("user_id").sortWithinPartitions("user_id", *_order(F.col("version")))
    # Spark compiles the sorting of rows, but interprets that of arrays of structs. An aggregate guarantees no order,
    # so each row carries its position, and only an array that was collected out of order is sorted again.
    placed = rows.select("user_id", "user_bucket", F.monotonically_increasing_id().alias("place"), "version")
    collected = placed.groupBy("user_id").agg(
        F.first("user_bucket").alias("user_bucket"), F.collect_list(F.struct("place", "version")).alias("rows")
    )
    places, timeline = F.col("rows.place"), F.col("rows.version")
    ordered = F.when(places == F.sort_array(places), timeline).otherwise(sorted_timeline(timeline))
    return collected.select("user_id", "user_bucket", ordered.alias("timeline"))


def _versions(events: DataFrame, timezone: str) -> DataFrame:
    """One row per upsert version: user_id, user_bucket, version."""
    version = F.struct(
        F.struct(*_EVENT_FIELDS).alias("event"),
        version_name().alias("name"),
        "superseded_at",
        month_of(local_date(F.col("event_at"), timezone)).alias("month"),
        "loan_id",
    )
    # The struct is built in a separate projection, which Spark compiles; inside the aggregate it would be interpreted.
    return _with_validity(events).where("op = 'upsert'").select("user_id", "user_bucket", version.alias("version"))


def sorted_timeline(timeline: Column) -> Column:
    """The timeline, sorted; fast where it consists of few sorted runs.

    Compares the fields that identify a version: the struct as a whole is not orderable, since it contains a map.
    """

    def compared(one: Column, other: Column) -> Column:
        first, second = F.struct(*_order(one)), F.struct(*_order(other))
        return F.when(first < second, -1).when(first > second, 1).otherwise(0)

    return F.array_sort(timeline, compared)


def _order(version: Column) -> tuple[Column, ...]:
    return version["event"]["event_at"], version["event"]["known_at"], version["name"]


def _with_validity(events: DataFrame) -> DataFrame:
    """Adds superseded_at: the known_at of the next version of the same event, null for the newest.

    A correction may move an event to another user, so validity is computed before grouping by user. Most events have
    one version: only events whose key hash occurs more than once are sorted; a hash collision costs a needless sort
    but does not change the result. The hashes of the corrected events are broadcast, 8 bytes each.
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
    """Source, event_id and known_at in microseconds; among versions with equal instants it sorts by these three."""
    return F.concat_ws("\t", "source", "event_id", F.unix_micros("known_at").cast("string"))


def with_points(timelines: DataFrame, points: DataFrame) -> DataFrame:
    """Inner join of ``timelines`` and ``points`` on user_id: one row per point.

    The points of a user are joined as one array, so every timeline is read once and no event is shuffled per T. They
    are then exploded; Spark moves no expression past an explode, so a value computed in ``points`` is computed once,
    not again for every event that a filter compares with it.
    """
    names = [name for name in points.columns if name != "user_id"]
    by_user = points.groupBy("user_id").agg(F.collect_list(F.struct(*names)).alias("points"))
    joined = timelines.join(by_user, on="user_id", how="inner")
    return joined.select(*timelines.columns, F.inline("points").alias(*names))


def as_of(timeline: Column, observation_at: Column) -> Column:
    """The versions of a timeline that are valid as of T and happened before T, in timeline order."""
    return F.filter(timeline, lambda version: _is_valid(version, observation_at))


def any_as_of(timeline: Column, observation_at: Column) -> Column:
    """Whether ``as_of`` is not empty; stops at the first match."""
    return F.exists(timeline, lambda version: _is_valid(version, observation_at))


def _is_valid(version: Column, observation_at: Column) -> Column:
    return (
        (version["event"]["known_at"] < observation_at)
        & (version["superseded_at"].isNull() | (version["superseded_at"] >= observation_at))
        & (version["event"]["event_at"] < observation_at)
    )


def of_types(history: Column, event_types: Iterable[str], source: str | None = None) -> Column:
    """The versions of a history whose event_type is one of ``event_types``, and whose source is ``source`` if given."""
    types = list(event_types)

    def chosen(version: Column) -> Column:
        of_type = version["event"]["event_type"].isin(types)
        return of_type if source is None else of_type & F.startswith(version["name"], F.lit(f"{source}\t"))

    return F.filter(history, chosen)


def newest(history: Column) -> Column:
    """The last version of a history, null when it is empty."""
    return F.try_element_at(history, F.lit(-1))


def distinct_months(history: Column) -> Column:
    """The number of distinct calendar months with events in a history."""
    return F.size(F.array_distinct(F.transform(history, lambda version: version["month"])))


def of_loan(history: Column, loan_id: Column) -> Column:
    """The versions of a history that name a loan; where ``loan_id`` is null, those that name none."""
    return F.filter(history, lambda version: version["loan_id"].eqNullSafe(loan_id))


def loans_of(history: Column) -> Column:
    """The loans of a history in the order of their first events; null stands for the events that name none."""
    return F.array_distinct(history["loan_id"])


def loan_states(outcomes: Column, closing_events: Iterable[str]) -> Column:
    """The last known state of every loan of a client, in the order of ``loans_of``.

    Outcome events that name no loan are those of one further loan, so a source without loan ids has one loan a client.

    Args:
        outcomes: the outcome events of a history.
        closing_events: outcome event types that end a loan.

    Returns:
        Array of structs of is_open (whether the last outcome event did not close the loan) and days_past_due (those
        of the last outcome event that reports them; null if none does).
    """
    closings = list(closing_events)

    def state(loan_id: Column) -> Column:
        events = of_loan(outcomes, loan_id)
        stating = F.filter(events, lambda version: version["event"]["days_past_due"].isNotNull())
        return F.struct(
            (~newest(events)["event"]["event_type"].isin(closings)).alias("is_open"),
            newest(stating)["event"]["days_past_due"].alias("days_past_due"),
        )

    return F.transform(loans_of(outcomes), state)


def worst_open_arrears(states: Column) -> Column:
    """The largest days past due of the open loans; null if none is open or none reports them.

    Args:
        states: from ``loan_states``.
    """
    return F.array_max(F.filter(states, lambda state: state["is_open"])["days_past_due"])
