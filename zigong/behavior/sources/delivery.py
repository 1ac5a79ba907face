"""One delivery of raw files, split into rows to publish, rows to quarantine, and dropped rows counted by reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from schemas.mappings import SourceMapping
from zigong.behavior.sources.ingest import (
    deduplicated,
    rejected_without_erased,
    stated_events,
    stated_profiles,
    without_erased,
)
from zigong.behavior.sources.nights import Delivered, Night, Standing, refused_rows
from zigong.behavior.sources.raw import RawTables, rejected_rows
from zigong.behavior.sources.redelivery import CONFLICTING, DUPLICATE, EVENTS, PROFILES
from zigong.behavior.sources.repeats import require_few_repeated
from zigong.behavior.sources.row_counts import row_counts
from zigong.behavior.sources.stated import unfit_payload
from zigong.errors import DataError
from zigong.lakehouse.counting import CountedRows, RowsRead
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
        warnings: what somebody should know of the rows.
    """

    rows: DataFrame
    refused: int
    erased: int
    rows_in: int
    warnings: tuple[str, ...] = ()

    @property
    def dropped(self) -> dict[str, int]:
        """Number of dropped rows, by reason."""
        return _nonzero(erased=self.erased)


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
    counts = [row_counts(raw.cells[file.name], file) for file in mapping.files]
    refused = sum(item.refused for item in counts)
    rejected = rejected_rows(raw, mapping, key=pseudonym_key(recipe))
    found = rejected_without_erased(rejected, tombstones if refused else None)
    return RefusedRaw(
        rows=found.kept,
        refused=refused,
        erased=found.erased,
        rows_in=sum(item.rows for item in counts),
        warnings=tuple(warning for item in counts for warning in item.warnings()),
    )


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
    night: Night | None,
    standing: Callable[[str], Standing],
) -> Iterator[Delivered]:
    """Yields the events, then the profiles; each table is computed when it is requested.

    Args:
        recipe: defines key, user buckets and business time zone.
        tombstones: of erased users, see :func:`zigong.behavior.sources.ingest.without_erased`.
        night: the dates to ingest; None: everything, which replaces all that is published of the source.
        standing: the published rows of a table.
    """
    key, timezone = pseudonym_key(recipe), recipe.business_timezone
    buckets = recipe.lakehouse.user_buckets
    events = stated_events(spark, raw, mapping, key=key, buckets=buckets, timezone=timezone)
    profiles = stated_profiles(spark, raw, mapping, key=key, timezone=timezone)
    ours = f"source = '{mapping.name}'"
    if night is None:
        whole = _whole(events, tombstones, table=EVENTS.table, cells=ours)
        require_few_repeated(raw, mapping, events=whole.read.rows, repeated=whole.dropped[DUPLICATE])
        yield whole
        found = _whole(profiles, tombstones, table=PROFILES.table, cells=ours)
    else:
        dated = night.events(events, standing(EVENTS.table))
        require_few_repeated(
            raw,
            mapping,
            events=dated.read.rows - dated.read.outside,
            repeated=dated.dropped.get(DUPLICATE, 0),
        )
        yield dated
        found = night.profiles(profiles, standing(PROFILES.table))
    replaced = night is None or night.rebuild
    if replaced and not found.kept.head(1) and standing(PROFILES.table).rows.where(ours).head(1):
        raise DataError(
            f"source {mapping.name}: the delivery has no profile, but profiles are published, which it would end",
            action="have the profiles delivered again; a run of dates adds to the published ones instead",
        )
    yield found


def _whole(rows: DataFrame, tombstones: DataFrame | None, *, table: str, cells: str) -> Delivered:
    """All rows of a source: one per key is kept, duplicates and erased users' rows are dropped, conflicts refused."""
    read = CountedRows(rows)
    versions = deduplicated(read.frame, table=table)
    kept, doubled, conflicting, unfit = (
        without_erased(part, tombstones)
        for part in (versions.kept, versions.duplicates, versions.conflicting, versions.unfit)
    )
    refused = refused_rows(conflicting.kept, F.lit(CONFLICTING), table_contract(table).column_names)
    erased = _nonzero(erased=kept.erased + doubled.erased + conflicting.erased + unfit.erased)
    return Delivered(
        table=table,
        kept=kept.kept,
        cells=cells,
        refused=refused.unionByName(unfit_payload(unfit.kept, table, EXACT)),
        dropped={DUPLICATE: doubled.kept.count(), **erased},
        read=RowsRead(rows=read.rows),
    )


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
