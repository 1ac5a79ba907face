"""Turns raw files into behavior_events and user_profiles through a source mapping.

A job calls ``read_raw``, then ``events_from`` or ``profiles_from``, then ``deduplicated``; ``rejected_rows`` and the
conflicting versions go to quarantine, so that rows in = published + quarantined + dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from schemas.contracts import table_contract
from schemas.mappings import SourceMapping
from zigong.behavior.sources.masking import code_or_shape, masked_attributes, masked_names
from zigong.behavior.sources.pseudonyms import key_digests, user_bucket
from zigong.behavior.sources.query import queried_rows
from zigong.behavior.sources.raw import RawTables, read_raw, rejected_rows
from zigong.behavior.sources.redelivery import ARRIVED_ON, CONFLICTING, DUPLICATE
from zigong.behavior.sources.stated import UNFIT, with_unknowable
from zigong.lakehouse.business_time import later_by, local_date
from zigong.lakehouse.row_text import row_text

__all__ = [
    "ErasureSplit",
    "RawTables",
    "Versions",
    "deduplicated",
    "events_from",
    "profiles_from",
    "read_raw",
    "rejected_rows",
    "rejected_without_erased",
    "without_erased",
]

# Texts outside these break the rules of behavior_events and are not kept.
OPERATION, EVENT_TYPE = r"\A(upsert|retract)\z", r"\A[a-z][a-z0-9_]{0,63}\z"
_FATE, _CONTENT = "_fate", "_content"
KEPT, DOES_NOT_FIT = "kept", "unfit"


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Rows split into four disjoint parts that together are exactly the input.

    Attributes:
        kept: one row per key of the contract.
        duplicates: exact duplicates, to be counted as dropped with the reason ``duplicate``.
        conflicting: rows with a kept key but different contents, for quarantine as ``conflicting_version``.
        unfit: rows with values that do not fit their columns, and ``_unfit``, the reasons; none where the input has no
            such column.
    """

    kept: DataFrame
    duplicates: DataFrame
    conflicting: DataFrame
    unfit: DataFrame


def events_from(
    spark: SparkSession,
    raw: RawTables,
    mapping: SourceMapping,
    *,
    key: bytes,
    buckets: int,
    timezone: str,
) -> DataFrame:
    """All event versions of a source whose values fit, in the columns of behavior_events.

    Args:
        key: key of the pseudonyms.
        buckets: number of user buckets of the lakehouse.
        timezone: business time zone; known_date is the date of known_at there.

    Raises:
        DataError: the mapping's SQL does not run, yields other columns, or exposes an identifier outside the keys.
    """
    stated = stated_events(spark, raw, mapping, key=key, buckets=buckets, timezone=timezone)
    return _fitting(stated, "behavior_events")


def stated_events(
    spark: SparkSession,
    raw: RawTables,
    mapping: SourceMapping,
    *,
    key: bytes,
    buckets: int,
    timezone: str,
) -> DataFrame:
    """As ``events_from``, with the rows that do not fit, ``_unfit``, the reasons, and ``arrived_on``.

    ``arrived_on`` is NULL where the SQL does not yield it.
    """
    stated = queried_rows(spark, raw, mapping, "events", timezone)
    lag = mapping.known_at_lag
    known_at = F.col("known_at") if lag is None else later_by(F.col("event_at"), lag, timezone)
    known = with_unknowable(stated.withColumn("known_at", known_at), happened="event_at")
    dated = known.withColumn("known_date", local_date(F.col("known_at"), timezone))
    pseudonym = key_digests(key)
    named = dated.select(
        F.lit(mapping.name).alias("source"),
        pseudonym(F.col("event_key")).alias("event_id"),
        "known_at",
        code_or_shape(F.col("op"), OPERATION).alias("op"),
        pseudonym(F.col("user_key")).alias("user_id"),
        pseudonym(F.col("loan_key")).alias("loan_id"),
        code_or_shape(F.col("event_type"), EVENT_TYPE).alias("event_type"),
        "event_at",
        F.lit(mapping.known_at_basis).alias("known_at_basis"),
        "amount",
        "currency",
        "days_past_due",
        _words(F.col("attributes"), mapping).alias("attributes"),
        "known_date",
        UNFIT,
        ARRIVED_ON,
    )
    placed = named.withColumn("user_bucket", user_bucket(F.col("user_id"), buckets))
    return _contracted(placed, "behavior_events")


def profiles_from(
    spark: SparkSession, raw: RawTables, mapping: SourceMapping, *, key: bytes, timezone: str
) -> DataFrame:
    """All profile versions of a source whose values fit, in the columns of user_profiles.

    Raises:
        DataError: as ``events_from``.
    """
    return _fitting(stated_profiles(spark, raw, mapping, key=key, timezone=timezone), "user_profiles")


def stated_profiles(
    spark: SparkSession, raw: RawTables, mapping: SourceMapping, *, key: bytes, timezone: str
) -> DataFrame:
    """As ``profiles_from``, with the rows that do not fit, ``_unfit``, the reasons, and ``arrived_on``."""
    pseudonym = key_digests(key)
    stated = queried_rows(spark, raw, mapping, "profiles", timezone)
    named = with_unknowable(stated, happened="valid_from").select(
        F.lit(mapping.name).alias("source"),
        pseudonym(F.col("user_key")).alias("user_id"),
        "valid_from",
        "known_at",
        pseudonym(F.col("person_key")).alias("person_id"),
        _words(F.col("attributes"), mapping).alias("attributes"),
        UNFIT,
        ARRIVED_ON,
    )
    return _contracted(named, "user_profiles")


def deduplicated(rows: DataFrame, *, table: str = "behavior_events") -> Versions:
    """One row per key of the table's contract.

    An exact copy is a duplicate. Rows with the same key but different contents conflict: the one with the smallest
    content digest is kept, so the choice depends only on the rows, and the others are conflicting. Rows that do not fit
    take no part.
    """
    contract = table_contract(table)
    rows = rows if UNFIT in rows.columns else rows.withColumn(UNFIT, F.array().cast("array<string>"))
    fits = F.size(UNFIT) == 0
    of_key = Window.partitionBy(*contract.key, fits)
    text = row_text((column.name, column.type) for column in contract.columns)
    content = F.when(F.count("*").over(of_key) > 1, F.sha2(text, 256))  # most keys occur once, with nothing to compare
    by_key = of_key.orderBy(_CONTENT)
    fate = (
        F.when(~fits, DOES_NOT_FIT)
        .when(F.lag(_CONTENT).over(by_key) == F.col(_CONTENT), DUPLICATE)
        .when(F.dense_rank().over(by_key) == 1, KEPT)
        .otherwise(CONFLICTING)
    )
    # Read three times: without the checkpoint each read would hash and shuffle all rows again.
    classified = rows.withColumn(_CONTENT, content).withColumn(_FATE, fate).localCheckpoint()
    kept, duplicates, conflicting = (
        classified.where(F.col(_FATE) == part).select(*contract.column_names) for part in (KEPT, DUPLICATE, CONFLICTING)
    )
    unfit = classified.where(F.col(_FATE) == DOES_NOT_FIT).select(*contract.column_names, UNFIT)
    return Versions(kept=kept, duplicates=duplicates, conflicting=conflicting, unfit=unfit)


@dataclass(frozen=True, kw_only=True)
class ErasureSplit:
    """Rows, split by the tombstones of erased users.

    Attributes:
        kept: rows of users who were never erased.
        erased: number of removed rows, to be counted as dropped with the reason ``erased``.
    """

    kept: DataFrame
    erased: int


def without_erased(rows: DataFrame, tombstones: DataFrame | None) -> ErasureSplit:
    """Removes the rows of erased users, who may reappear in any file.

    Args:
        rows: any rows with the column user_id.
        tombstones: column ``tombstone``, the SHA-256 of each erased pseudonym; None: nobody was erased.
    """
    if tombstones is None:
        return ErasureSplit(kept=rows, erased=0)
    known = F.sha2("user_id", 256) == F.col("tombstone")
    return ErasureSplit(
        kept=rows.join(F.broadcast(tombstones), known, "left_anti"),
        erased=rows.join(F.broadcast(tombstones), known, "left_semi").count(),
    )


def rejected_without_erased(rejected: DataFrame, tombstones: DataFrame | None) -> ErasureSplit:
    """Removes rejected rows whose identifier fields contain the pseudonym of an erased user.

    Args:
        rejected: as returned by ``rejected_rows``.
        tombstones: as in ``without_erased``.
    """
    if tombstones is None:
        return ErasureSplit(kept=rejected, erased=0)
    row = F.sha2("payload", 256)
    named = rejected.select(row.alias("_row"), F.explode("identifiers").alias("user_id"))
    known = named.join(F.broadcast(tombstones), F.sha2("user_id", 256) == F.col("tombstone"), "left_semi")
    erased = F.broadcast(known.select("_row").distinct())
    return ErasureSplit(
        kept=rejected.join(erased, row == F.col("_row"), "left_anti"),
        erased=rejected.join(erased, row == F.col("_row"), "left_semi").count(),
    )


def _contracted(frame: DataFrame, table: str) -> DataFrame:
    return frame.select(*table_contract(table).column_names, UNFIT, ARRIVED_ON)


def _fitting(stated: DataFrame, table: str) -> DataFrame:
    return stated.where(F.size(UNFIT) == 0).select(*table_contract(table).column_names)


def _words(attributes: Column, mapping: SourceMapping) -> Column:
    """Attributes as a map of texts without nulls, with free text masked; a null map becomes an empty one."""
    texts = attributes.cast("map<string,string>")
    empty = F.create_map().cast("map<string,string>")
    stated = F.coalesce(F.map_filter(texts, lambda _, value: value.isNotNull()), empty)
    return masked_attributes(masked_names(stated), mapping.attribute_codes)
