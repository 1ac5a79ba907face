"""Pinned references of drift rules: how a run's rows fell into bins, kept until somebody pins another run.

A reference holds aggregates only: the edges of bins or the most frequent words, and counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.rules import TableRule
from zigong.run import write_json

BINS, WORDS = 10, 20


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Bins of an expression and the counts of the reference rows in them.

    Attributes:
        of: the expression, as the rule says it.
        among: the rows that count, as the rule says it.
        edges: upper edges of numeric bins, the last bin is open; empty for words.
        words: a bin each; empty for numbers.
        counts: rows in each bin, then of all other values, then of NULL.
        run_id: run whose rows they are.
    """

    of: str
    among: str
    edges: tuple[float, ...]
    words: tuple[str, ...]
    counts: tuple[int, ...]
    run_id: str

    def count(self, stays: Column) -> list[Column]:
        """Aggregates: rows in each bin, of those that stay."""
        value = F.expr(self.of)
        if self.edges:
            number = value.cast("double")
            inside = [
                (number <= high) if low is None else (number > low) & (number <= high)
                for low, high in pairwise((None, *self.edges))
            ]
            other = number > self.edges[-1]
        else:
            inside = [value.cast("string") == word for word in self.words]
            other = ~value.cast("string").isin(*self.words)
        among = stays & F.expr(self.among)
        return [F.count_if(among & held) for held in (*inside, other, value.isNull())]


class References:
    """The references of a lakehouse, a file for each rule."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, table: str, rule: TableRule) -> Reference | None:
        """The pinned reference of a rule; None where there is none, or one of another expression."""
        file = self._file(table, rule)
        if not file.is_file():
            return None
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
        found = Reference(**known)
        return found if (found.of, found.among) == _expressions(rule) else None

    def pin(self, table: str, rule: TableRule, reference: Reference) -> None:
        """Keeps a reference in the place of the former one."""
        write_json(self._file(table, rule), asdict(reference))

    def _file(self, table: str, rule: TableRule) -> Path:
        return self.folder / f"{table}.{rule.name}.json"


def _expressions(rule: TableRule) -> tuple[str, str]:
    return rule.arguments["of"], rule.arguments.get("among", "true")


def made_reference(rows: DataFrame, rule: TableRule, run_id: str) -> Reference | None:
    """The reference that some rows give; None where no row has a value."""
    of, among = _expressions(rule)
    value = rows.where(among).select(F.expr(of).alias("value")).where("value IS NOT NULL")
    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    if dict(value.dtypes)["value"] in ("string", "boolean"):
        counted = value.groupBy(F.col("value").cast("string").alias("value")).count()
        words = tuple(row["value"] for row in counted.orderBy(F.desc("count"), "value").limit(WORDS).collect())
    else:
        steps = [step / BINS for step in range(1, BINS)]
        (row,) = value.agg(F.percentile_approx(F.col("value").cast("double"), steps, 10_000).alias("edges")).collect()
        edges = tuple(sorted(set(row["edges"] or ())))
    if not (edges or words):
        return None
    made = Reference(of=of, among=among, edges=edges, words=words, counts=(), run_id=run_id)
    (row,) = rows.agg(F.array(*made.count(F.lit(True))).alias("counts")).collect()
    return replace(made, counts=tuple(row["counts"]))
