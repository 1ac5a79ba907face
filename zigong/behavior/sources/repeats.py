"""Rows that ingest drops because an equal one exists: the same delivered again, or several that really happened."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceFile, SourceMapping
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.ingest import Versions
from zigong.behavior.sources.raw import REASONS, RawTables
from zigong.behavior.sources.text_rows import FILE
from zigong.errors import DataError

UNUSUAL_SHARE = 0.02  # of the events; sources that send an event again do so seldom within one file


def repeated_events(raw: RawTables, mapping: SourceMapping, versions: Versions) -> list[SourceFinding]:
    """The events that ingest would drop as exact duplicates; red where second deliveries do not explain them."""
    repeated = versions.duplicates.count()
    if not repeated:
        return []
    total = repeated + versions.kept.count()
    unexplained = repeated / total - delivered_again(raw, mapping)
    return [
        SourceFinding(
            section="events",
            problem="exact duplicates of a row; ingest drops and counts them",
            rows=repeated,
            action="none if the source repeats lines; if they really happened several times, use a number of the "
            "source in event_key, or _line",
            blocking=unexplained > UNUSUAL_SHARE,
            lossy=True,
        )
    ]


def repeated_profiles(versions: Versions) -> list[SourceFinding]:
    """The profiles that ingest would drop as exact duplicates; nothing of them is lost."""
    repeated = versions.duplicates.count()
    return [
        SourceFinding(
            section="profiles",
            problem="exact duplicates of a row; ingest drops and counts them",
            rows=repeated,
            action="none, or use SELECT DISTINCT",
            blocking=False,
            lossy=True,
        )
    ] * bool(repeated)


def require_few_repeated(raw: RawTables, mapping: SourceMapping, *, events: int, repeated: int) -> None:
    """Stops the ingest when so many events equal others that the key cannot tell them apart.

    Args:
        events: number of events that the SQL yields.
        repeated: how many of them are dropped as exact duplicates.

    Raises:
        DataError: their share, without lines that stand in several files, is above ``max_refused_share``.
    """
    if repeated <= mapping.max_refused_share * events:
        return
    share = repeated / events - delivered_again(raw, mapping)
    if share > mapping.max_refused_share:
        raise DataError(
            f"source {mapping.name}: {repeated:,} of {events:,} events are exact duplicates of others, and no "
            f"second delivery explains them; the mapping allows a share of {mapping.max_refused_share:g}; no event was "
            "published",
            action="use a number of the source in event_key, or _line; raise max_refused_share if the "
            "source repeats lines",
        )


def delivered_again(raw: RawTables, mapping: SourceMapping) -> float:
    """The share of valid rows that stand in another file too, such as in two nights' full deliveries."""
    counted = [_counted(raw.cells[file.name], file) for file in mapping.files]
    rows = sum(number for number, _ in counted)
    return sum(again for _, again in counted) / rows if rows else 0.0


def _counted(cells: DataFrame, file: SourceFile) -> tuple[int, int]:
    """The valid rows of a file, and how many of them repeat rows of other files in its folder."""
    line = F.xxhash64(*(F.col(f"`{column.name}`").cast("string") for column in file.columns))
    rows = cells.where(F.size(REASONS) == 0).select(line.alias("line"), F.col(FILE).alias("origin"))
    by_file = rows.groupBy("line", "origin").agg(F.count("*").alias("rows"))
    by_line = by_file.groupBy("line").agg(F.sum("rows").alias("all"), F.max("rows").alias("most"))
    (found,) = by_line.agg(F.sum("all").alias("rows"), F.sum(F.col("all") - F.col("most")).alias("again")).collect()
    return found["rows"] or 0, found["again"] or 0
