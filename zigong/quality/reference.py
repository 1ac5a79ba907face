"""Pinned references of drift rules: a run's row counts by bin, kept until another run is pinned.

A reference holds aggregates only: bin edges or frequent words, and counts. A map has bins for each of its keys.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, MapType, StringType

from schemas.rules import TableRule
from zigong.files.atomic import write_json
from zigong.quality.bins import WHOLE, Bins, bins_of_keys, bins_of_value
from zigong.quality.stability import stability_index


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Bins of an expression, or of each key of a map, and the counts of the reference rows in them.

    Attributes:
        of: the expression, as in the rule.
        among: condition that selects the counted rows, as in the rule.
        run_id: run that wrote the rows.
        bins: by key of the map; an expression that is not a map has bins under the key ``WHOLE`` only.
        counts: by key: rows in each bin, then rows with any other value, then rows with NULL.
    """

    of: str
    among: str
    run_id: str
    bins: dict[str, Bins]
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def count(self, kept: Column) -> Column:
        """Aggregate: rows in each bin among those that satisfy ``kept``; bins are concatenated key by key."""
        among = kept & F.expr(self.among)
        return F.array(
            *(F.count_if(among & inside) for key, bins in self.bins.items() for inside in self._conditions(key, bins))
        )

    def by_key(self, counts: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Splits the result of :meth:`count` by key."""
        found, start = {}, 0
        for key, bins in self.bins.items():
            found[key] = tuple(counts[start : start + bins.size])
            start += bins.size
        return found

    def drift(self, counts: Sequence[int]) -> tuple[str, float]:
        """The key with the largest population stability index, and that index.

        Args:
            counts: result of :meth:`count`, not all 0.
        """
        indices = {key: stability_index(found, self.counts[key]) for key, found in self.by_key(counts).items()}
        worst = max(indices, key=indices.__getitem__)
        return worst, indices[worst]

    def _conditions(self, key: str, bins: Bins) -> list[Column]:
        value = F.expr(self.of)
        return bins.conditions(value if key == WHOLE else F.try_element_at(value, F.lit(key)))


class References:
    """The references of a lakehouse, one file per rule."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, table: str, rule: TableRule) -> Reference | None:
        """The pinned reference of a rule; None if there is none, or if its expression or format differs."""
        file = self._file(table, rule)
        if not file.is_file():
            return None
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if (content["of"], content["among"]) != _expressions(rule) or "bins" not in content:
            return None
        bins = {
            key: Bins(**{name: tuple(values) for name, values in one.items()}) for key, one in content["bins"].items()
        }
        counts = {key: tuple(values) for key, values in content["counts"].items()}
        return Reference(**{**content, "bins": bins, "counts": counts})

    def pin(self, table: str, rule: TableRule, reference: Reference) -> None:
        """Stores a reference, replacing the previous one."""
        write_json(self._file(table, rule), asdict(reference))

    def _file(self, table: str, rule: TableRule) -> Path:
        return self.folder / f"{table}.{rule.name}.json"


def _expressions(rule: TableRule) -> tuple[str, str]:
    return rule.arguments["of"], rule.arguments.get("among", "true")


def made_reference(rows: DataFrame, rule: TableRule, run_id: str) -> Reference | None:
    """Builds a reference from rows; None if too few of them have a value."""
    of, among = _expressions(rule)
    owner = F.col("user_id") if "user_id" in rows.columns else F.monotonically_increasing_id()
    value = rows.where(among).select(owner.alias("owner"), F.expr(of).alias("value")).where("value IS NOT NULL")
    kind = value.schema["value"].dataType
    if isinstance(kind, MapType):
        bins = bins_of_keys(value)
    else:
        found = bins_of_value(value, words=isinstance(kind, StringType | BooleanType))
        bins = {} if found is None else {WHOLE: found}
    if not bins:
        return None
    made = Reference(of=of, among=among, run_id=run_id, bins=bins)
    (row,) = rows.agg(made.count(F.lit(True)).alias("counts")).collect()
    return Reference(of=of, among=among, run_id=run_id, bins=bins, counts=made.by_key(row["counts"]))
