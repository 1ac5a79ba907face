"""Findings about whole columns: cells that are each valid, but together look like something else."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceColumn, SourceFile
from zigong.behavior.sources.causes import HINTS, THOUSANDS
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.raw import REASONS
from zigong.behavior.sources.zones import has_offset, text_times

_GROUPED = r"\A[+-]?[1-9][0-9]{0,2}\.[0-9]{3}\z"
_NOT_GROUPED = r"\A[+-]?(?:0*|[0-9]{4,})\.[0-9]{3}\z|\.(?:[0-9]|[0-9]{4,})\z|[eE]"
_CLOCK = r"[0-9]:[0-9]"


def odd_columns(cells: DataFrame, file: SourceFile, local: Collection[str]) -> list[SourceFinding]:
    """Mixed offsets, times without a clock, and numbers that look like thousands, in one pass over the valid rows.

    Args:
        cells: raw fields and ``_reasons``.
        file: their declaration.
        local: columns that the SQL takes for local time, as ``file.column``.
    """
    times = text_times(cells, file)
    numbers = [column.name for column in file.columns if _keeps_thousandths(column) and _is_text(cells, column)]
    counts: list[Column] = []
    for name in times:
        cell = F.col(f"`{name}`")
        counts.append(F.count_if(has_offset(cell, "string")).alias(f"zoned:{name}"))
        counts.append(F.count_if(cell.rlike(_CLOCK)).alias(f"clock:{name}"))
        counts.append(F.count(cell).alias(f"all:{name}"))
    for name in numbers:
        counts.append(F.count_if(F.col(f"`{name}`").rlike(_GROUPED)).alias(f"grouped:{name}"))
        counts.append(F.count_if(F.col(f"`{name}`").rlike(_NOT_GROUPED)).alias(f"other:{name}"))
    if not counts:
        return []
    found = cells.where(F.size(REASONS) == 0).agg(*counts).collect()[0].asDict()
    section = f"files: {file.name}"
    findings = [_thousands(section, name, found[f"grouped:{name}"], found[f"other:{name}"]) for name in numbers]
    for name in times:
        zoned, clock, rows = (found[f"{what}:{name}"] for what in ("zoned", "clock", "all"))
        findings.append(_mixed(section, name, zoned, rows) if f"{file.name}.{name}" not in local else None)
        findings.append(_without_clock(section, name, rows - clock, rows))
    return [finding for finding in findings if finding is not None]


def _keeps_thousandths(column: SourceColumn) -> bool:
    return column.type == "double" or (
        column.type.startswith("decimal") and int(column.type.rstrip(")").rpartition(",")[2]) > 2
    )


def _is_text(cells: DataFrame, column: SourceColumn) -> bool:
    kinds: dict[str, str] = dict(cells.dtypes)
    return kinds[column.name] == "string"


def _thousands(section: str, column: str, grouped: int, other: int) -> SourceFinding | None:
    """Every fraction has three digits behind one to three others: 3.000 may be three thousand."""
    if not grouped or other:
        return None
    return SourceFinding(
        section=section,
        column=column,
        problem=f"{THOUSANDS}: every such number has exactly three digits behind its point",
        rows=grouped,
        action=f"none if they are thousandths; otherwise {HINTS[THOUSANDS]}",
        blocking=False,
        lossy=True,
    )


def _mixed(section: str, column: str, zoned: int, rows: int) -> SourceFinding | None:
    if not 0 < zoned < rows:
        return None
    return SourceFinding(
        section=section,
        column=column,
        problem=f"{zoned:,} of {rows:,} cells carry an offset or a zone; the others are read as UTC",
        rows=rows - zoned,
        action="have all times delivered with an offset, or all without one and use to_utc_timestamp",
        lossy=True,
    )


def _without_clock(section: str, column: str, bare: int, rows: int) -> SourceFinding | None:
    if not bare:
        return None
    return SourceFinding(
        section=section,
        column=column,
        problem=f"{bare:,} of {rows:,} cells have no time of day and become midnight",
        rows=bare,
        action="none if that is meant; a day is known at its end: declare date and use the end of the day in the SQL",
        blocking=False,
        lossy=True,
    )
