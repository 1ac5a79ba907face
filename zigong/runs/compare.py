"""Whether two runs have equal results: the rows of their tables, and their figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyspark.sql import DataFrame, SparkSession

from zigong.lakehouse.digest import RowsDigest, rows_digest
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import open_pinned
from zigong.runs.run import Run

# Columns that name a run or a moment; they differ between any two runs, whatever the results.
COLUMNS_OF_RUN = ("run_id", "registry_version", "created_at", "decided_at")
# Figures of the work itself: times, rates, and how much was reused from an earlier run (scores, timelines).
FIGURES_OF_WORK = ("seconds.*", "*_per_second", "influence.taken_over", "influence.computed", "rows.user_timelines.*")


@dataclass(frozen=True, kw_only=True)
class ComparedTable:
    """One table at the versions of two runs.

    Attributes:
        sides: content of each run's version, without ``COLUMNS_OF_RUN``; None: the run has no version of the table.
    """

    table: str
    sides: tuple[RowsDigest | None, RowsDigest | None]

    @property
    def difference(self) -> str:
        """A description of the difference; empty when there is none."""
        first, other = self.sides
        if first == other:
            return ""
        if first is None or other is None:
            return f"only {'the other' if first is None else 'the first'} run has it"
        if first.columns != other.columns:
            differing = sorted({name for name, _ in set(first.columns) ^ set(other.columns)})
            return f"columns differ: {', '.join(differing)}"
        if first.rows != other.rows:
            return f"{first.rows:,} rows and {other.rows:,} rows"
        return "equal number of rows, different content"


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """The comparison of two runs.

    Attributes:
        tables: every table that one of the runs pinned or published, by name.
        figures: how many figures were compared.
        differing_figures: by name, the value of each run; None if a run lacks it.
    """

    tables: tuple[ComparedTable, ...]
    figures: int
    differing_figures: Mapping[str, tuple[float | None, float | None]]

    @property
    def first_difference(self) -> str:
        """The first table that differs, else the first figure; empty when the results are equal."""
        for item in self.tables:
            if item.difference:
                return f"table {item.table}: {item.difference}"
        for name, (first, other) in self.differing_figures.items():
            return f"figure {name}: {first} and {other}"
        return ""


def compare_runs(spark: SparkSession, first: Run, other: Run) -> RunComparison:
    """Compares the tables of two runs at the versions that each pinned or published, and their metrics.json.

    A version is compared completely: it also holds what earlier runs wrote in other partitions. Of a table
    whose rows name their run, only each run's own rows are compared.

    Raises:
        ConfigError: an erasure removed a version.
    """
    pinned: tuple[Mapping[str, int], Mapping[str, int]] = (first.manifest()["tables"], other.manifest()["tables"])
    tables = tuple(
        ComparedTable(
            table=name,
            sides=(_digest(spark, first, name, pinned[0].get(name)), _digest(spark, other, name, pinned[1].get(name))),
        )
        for name in sorted({*pinned[0], *pinned[1]})
    )
    sides = (_compared_figures(first), _compared_figures(other))
    names = sorted({*sides[0], *sides[1]})
    pairs = {name: (sides[0].get(name), sides[1].get(name)) for name in names}
    differing = {name: pair for name, pair in pairs.items() if not _equal(*pair)}
    return RunComparison(tables=tables, figures=len(names), differing_figures=differing)


def _digest(spark: SparkSession, run: Run, table: str, version: int | None) -> RowsDigest | None:
    if version is None:
        return None
    paths = LakehousePaths.at(str(run.folder.parent.parent))
    return rows_digest(_comparable(open_pinned(spark, paths, table, version), run.run_id))


def _comparable(rows: DataFrame, run_id: str) -> DataFrame:
    own = rows.where(rows["run_id"] == run_id) if "run_id" in rows.columns else rows
    return own.drop(*COLUMNS_OF_RUN)


def _compared_figures(run: Run) -> dict[str, float]:
    figures = run.metrics()
    return {name: value for name, value in figures.items() if not any(fnmatchcase(name, of) for of in FIGURES_OF_WORK)}


def _equal(first: float | None, other: float | None) -> bool:
    if first is None or other is None:
        return False
    return first == other or (math.isnan(first) and math.isnan(other))
