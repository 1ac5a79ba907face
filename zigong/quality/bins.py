"""Bins for counting values: deciles of numbers, or frequent words."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

WHOLE = ""  # key of the bins of a value that is not a map
PARTS, MAX_CATEGORIES, MAX_MAP_KEYS = 10, 20, 20
MIN_CLIENTS = 5  # a reference contains no word or key that fewer clients have
ACCURACY = 10_000  # of quantiles: the error is at most 1/10,000 of the rows


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Bins of numbers or words, plus one bin for all other values and one for NULL.

    Attributes:
        edges: upper edges of numeric bins; the last bin is open; empty for words.
        words: one bin per word; empty for numbers.
    """

    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of bins, including those of other values and of NULL."""
        return len(self.edges or self.words) + 2

    def conditions(self, value: Column) -> list[Column]:
        """One condition per bin: whether the value is in it."""
        if not self.edges:
            text = value.cast("string")
            return [*(text == word for word in self.words), ~text.isin(*self.words), value.isNull()]
        number = value.try_cast("double")
        inside = [
            (number <= high) if low is None else (number > low) & (number <= high)
            for low, high in pairwise((None, *self.edges))
        ]
        return [*inside, number.isNull() & value.isNotNull() | (number > self.edges[-1]), value.isNull()]


def bins_of_value(value: DataFrame, *, words: bool) -> Bins | None:
    """Bins of the column ``value``; None if no word is frequent or there is no number.

    Args:
        value: columns ``value``, not NULL, and ``owner``, the client it belongs to.
        words: whether the values are words; otherwise they are numbers or times.
    """
    if words:
        keyed = value.select("owner", F.lit(WHOLE).alias("key"), F.col("value").cast("string").alias("value"))
        found = _frequent_words(keyed).get(WHOLE)
        return Bins(words=found) if found else None
    (row,) = value.agg(_edges(F.col("value").cast("double")).alias("edges")).collect()
    return Bins(edges=tuple(sorted(set(row["edges"] or ())))) if row["edges"] else None


def bins_of_keys(value: DataFrame) -> dict[str, Bins]:
    """Bins for each frequent key of the map ``value``: numeric if every value parses as a number, else words."""
    keyed = value.select("owner", F.explode("value").alias("key", "value")).where("value IS NOT NULL")
    keyed = keyed.select(
        "owner", F.col("key").cast("string").alias("key"), F.col("value").cast("string").alias("value")
    )
    number = F.col("value").try_cast("double")
    by_key = (
        keyed.groupBy("key")
        .agg(
            F.count("*").alias("rows"),
            F.count_distinct("owner").alias("owners"),
            F.count(number).alias("numbers"),
            _edges(number).alias("edges"),
        )
        .where(F.col("owners") >= MIN_CLIENTS)
        .orderBy(F.desc("rows"), "key")
        .limit(MAX_MAP_KEYS)
        .collect()
    )
    numbers = {
        row["key"]: Bins(edges=tuple(sorted(set(row["edges"])))) for row in by_key if row["rows"] == row["numbers"]
    }
    others = [row["key"] for row in by_key if row["key"] not in numbers]
    words = _frequent_words(keyed.where(F.col("key").isin(others))) if others else {}
    return dict(sorted((numbers | {key: Bins(words=found) for key, found in words.items()}).items()))


def _edges(number: Column) -> Column:
    return F.percentile_approx(number, [step / PARTS for step in range(1, PARTS)], ACCURACY)


def _frequent_words(keyed: DataFrame) -> dict[str, tuple[str, ...]]:
    """The most frequent values of each key, the most frequent first."""
    ranks = Window.partitionBy("key").orderBy(F.desc("count"), "value")
    counted = (
        keyed.groupBy("key", "value")
        .agg(F.count("*").alias("count"), F.count_distinct("owner").alias("owners"))
        .where(F.col("owners") >= MIN_CLIENTS)
    )
    ranked = counted.withColumn("rank", F.row_number().over(ranks)).where(F.col("rank") <= MAX_CATEGORIES)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in ranked.orderBy("key", "rank").collect():
        found[row["key"]].append(row["value"])
    return {key: tuple(words) for key, words in found.items()}
