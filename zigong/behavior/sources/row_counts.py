"""Counts the rows of raw files in one pass: those that do not fit, placeholders as ids, and doubled JSON keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceFile
from zigong.behavior.sources.findings import SourceFinding, rule_finding
from zigong.behavior.sources.identifiers import NUMBER_STAND_INS, is_stand_in
from zigong.behavior.sources.raw import BROKEN_TEXT, REASONS
from zigong.behavior.sources.text_rows import DOUBLED


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """The rows of one section of a mapping.

    Attributes:
        section: name of the section.
        rows: number of rows.
        refused: how many of them do not fit the mapping.
        stand_ins: rows whose identifier is a placeholder for a missing value, by column and text.
        doubled: rows whose JSON object states a key twice with different values, by column.
        broken: rows with a text that is broken in the declared encoding, by column.
    """

    section: str
    rows: int
    refused: int
    stand_ins: Mapping[tuple[str, str], int]
    doubled: Mapping[str, int]
    broken: Mapping[str, int]

    def findings(self) -> Iterator[SourceFinding]:
        """Placeholders (a number only if more than one row has it), and doubled keys."""
        for (column, text), rows in sorted(self.stand_ins.items()):
            if rows > 1 or text not in NUMBER_STAND_INS:
                yield SourceFinding(
                    section=f"files: {self.section}",
                    column=column,
                    problem=f"holds `{text}`, a placeholder and not an id: all its rows would share one key",
                    rows=rows,
                    action=f'add "{text}" to null_values of the file; nothing if it is the id of one client',
                    blocking=False,
                )
        for column, rows in sorted(self.doubled.items()):
            yield SourceFinding(
                section=f"files: {self.section}",
                column=column,
                problem="the key occurs twice in an object, with different values; the last one is taken",
                rows=rows,
                action="have each key delivered once in an object; nothing if the last value is the right one",
                blocking=False,
                lossy=True,
            )

    def warnings(self) -> Iterator[str]:
        """The findings, and the texts that are broken: they are those of names with accents, which selects clients."""
        yield from (finding.sentence for finding in self.findings())
        for column, rows in sorted(self.broken.items()):
            finding = rule_finding(f"files: {self.section}", f"{BROKEN_TEXT}:{column}", rows, ())
            yield f"{finding.sentence}; they are in quarantine"


def row_counts(cells: DataFrame, file: SourceFile) -> RowCounts:
    """Counts the rows of a section; nearly all of them fall into one group of the query.

    Args:
        cells: the raw fields, as ``raw.RawTables.cells``.
        file: their declaration.
    """
    broken = F.filter(REASONS, lambda reason: reason.startswith(f"{BROKEN_TEXT}:"))
    marks = cells.select(
        _stand_ins(file).alias("marks"), DOUBLED, broken.alias("broken"), (F.size(REASONS) > 0).alias("refused")
    )
    groups = marks.groupBy("marks", DOUBLED, "broken")
    found = groups.agg(F.count("*").alias("rows"), F.count_if("refused").alias("refused")).collect()
    stand_ins: Counter[tuple[str, str]] = Counter()
    doubled: Counter[str] = Counter()
    unreadable: Counter[str] = Counter()
    for row in found:
        for mark in row["marks"]:
            stand_ins[mark["column"], mark["cell"]] += row["rows"]
        for column in row[DOUBLED] or ():
            doubled[column] += row["rows"]
        for reason in row["broken"]:
            unreadable[reason.partition(":")[2]] += row["rows"]
    return RowCounts(
        section=file.name,
        rows=sum(row["rows"] for row in found),
        refused=sum(row["refused"] for row in found),
        stand_ins=stand_ins,
        doubled=doubled,
        broken=unreadable,
    )


def _stand_ins(file: SourceFile) -> Column:
    """The identifier fields of a row that hold a placeholder, mostly none."""
    fields = []
    for column in file.columns:
        if column.identifier:
            cell = F.col(f"`{column.name}`").cast("string")
            fields.append(F.when(is_stand_in(cell), F.struct(F.lit(column.name).alias("column"), cell.alias("cell"))))
    nothing = F.array().cast("array<struct<column:string,cell:string>>")
    return F.array_compact(F.array(*fields)) if fields else nothing
