"""One delivery of raw files, split into rows to publish, rows to quarantine, and dropped rows counted by reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.behavior.sources.ingest import (
    deduplicated,
    rejected_without_erased,
    stated_events,
    stated_profiles,
    without_erased,
)
from zigong.behavior.sources.raw import RawTables, counted_rows, rejected_rows
from zigong.behavior.sources.stated import unfit_payload
from zigong.errors import DataError
from zigong.lakehouse.row_text import EXACT
from zigong.recipe import Recipe
from zigong.recipe.source import pseudonym_key


@dataclass(frozen=True, kw_only=True)
class RefusedRaw:
    """Raw rows that do not fit the mapping.

    Attributes:
        rows: the rows with their reasons, without those of erased users.
        refused: number of rows that do not fit the mapping, including those of erased users.
        erased: how many of these belong to erased users.
        rows_in: number of rows of all files.
    """

    rows: DataFrame
    refused: int
    erased: int
    rows_in: int

    @property
    def dropped(self) -> dict[str, int]:
        """Number of dropped rows, by reason."""
        return _nonzero(erased=self.erased)


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The rows of one table.

    Attributes:
        table: behavior_events or user_profiles.
        kept: one row per key of the contract.
        refused: conflicting versions and rows that do not fit (columns reasons and payload).
        dropped: number of dropped rows, by reason.
    """

    table: str
    kept: DataFrame
    refused: DataFrame
    dropped: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ProfiledUsers:
    """The number of users of some events, and how many of them have a profile."""

    users: int
    profiled: int

    @property
    def without_profile(self) -> int:
        """Users whose sequences have an empty profile."""
        return self.users - self.profiled


def unread_columns(raw: RawTables) -> str | None:
    """The columns of the files that the mapping does not declare, as text; None if every column is read."""
    return "; ".join(f"{name}: {', '.join(columns)}" for name, columns in raw.unread.items() if columns) or None


def refused_raw(raw: RawTables, mapping: SourceMapping, recipe: Recipe, tombstones: DataFrame | None) -> RefusedRaw:
    """The raw rows that do not fit the mapping.

    Args:
        recipe: names the key of the pseudonyms.
        tombstones: of erased users, see :func:`zigong.behavior.sources.ingest.without_erased`.
    """
    rows_in, refused = counted_rows(raw)
    rejected = rejected_rows(raw, mapping, key=pseudonym_key(recipe))
    found = rejected_without_erased(rejected, tombstones if refused else None)
    return RefusedRaw(rows=found.kept, refused=refused, erased=found.erased, rows_in=rows_in)


def require_few_refused(mapping: SourceMapping, found: RefusedRaw) -> None:
    """Stops the ingest when so many raw rows are bad that the delivery or the mapping must be broken.

    Raises:
        DataError: more than the mapping's ``max_refused_share`` of the rows do not fit.
    """
    if found.refused > mapping.max_refused_share * found.rows_in:
        raise DataError(
            f"source {mapping.name}: {found.refused:,} of {found.rows_in:,} raw rows do not fit the mapping, which "
            f"allows a share of {mapping.max_refused_share:g}; nothing was published",
            action="`zigong quarantine ls` shows the reasons; have the files delivered again, correct the mapping, or "
            "raise its max_refused_share",
        )


def delivered_tables(
    spark: SparkSession,
    raw: RawTables,
    mapping: SourceMapping,
    recipe: Recipe,
    tombstones: DataFrame | None,
    *,
    from_date: date | None,
    to_date: date | None,
) -> Iterator[Delivered]:
    """Yields the events of the dates, then the profiles; each table is computed when it is requested.

    Args:
        recipe: defines key, user buckets and business time zone.
        tombstones: of erased users, see :func:`zigong.behavior.sources.ingest.without_erased`.
        from_date: first known date of the events; None: all before ``to_date``.
        to_date: end of the known dates, excluded; None: all from ``from_date`` on.
    """
    key, timezone = pseudonym_key(recipe), recipe.business_timezone
    events = stated_events(
        spark,
        raw,
        mapping,
        key=key,
        buckets=recipe.lakehouse.user_buckets,
        timezone=timezone,
        from_date=from_date,
        to_date=to_date,
    )
    profiles = stated_profiles(spark, raw, mapping, key=key, timezone=timezone)
    yield _delivered(events, tombstones, table="behavior_events")
    yield _delivered(profiles, tombstones, table="user_profiles")


def _delivered(rows: DataFrame, tombstones: DataFrame | None, *, table: str) -> Delivered:
    """Splits rows: one per key is kept, duplicates and rows of erased users are dropped, others are refused."""
    versions = deduplicated(rows, table=table)
    kept, doubled, conflicting, unfit = (
        without_erased(part, tombstones)
        for part in (versions.kept, versions.duplicates, versions.conflicting, versions.unfit)
    )
    refused = conflicting.kept.select(
        F.array(F.lit("conflicting_version")).alias("reasons"), F.to_json(F.struct("*"), EXACT).alias("payload")
    )
    refused = refused.unionByName(unfit_payload(unfit.kept, table, EXACT))
    erased = _nonzero(erased=kept.erased + doubled.erased + conflicting.erased + unfit.erased)
    dropped = {"duplicate": doubled.kept.count(), **erased}
    return Delivered(table=table, kept=kept.kept, refused=refused, dropped=dropped)


def profiled_users(events: DataFrame, profiles: DataFrame) -> ProfiledUsers:
    """Counts the users of events, and those of them with a profile."""
    users = events.select("user_id").distinct()
    known = profiles.select("user_id", F.lit(True).alias("known")).distinct()
    joined = users.join(known, "user_id", "left")
    (row,) = joined.agg(F.count("*").alias("users"), F.count("known").alias("profiled")).collect()
    return ProfiledUsers(users=row["users"], profiled=row["profiled"])


def _nonzero(**counts: int) -> dict[str, int]:
    """The counts by reason, without the reasons that do not occur."""
    return {reason: rows for reason, rows in counts.items() if rows}
