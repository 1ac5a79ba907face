"""Bins that values are counted in: deciles of numbers, or frequent words."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

WHOLE = ""  # the key under which the bins of a value stand that is no map
PARTS, MAX_CATEGORIES, MAX_MAP_KEYS = 10, 20, 20
FEWEST = 5  # clients of a word or a key: what fewer have is told by no reference
ACCURACY = 10_000  # of quantiles: a ten-thousandth of the rows


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Bins of numbers or of words, one more for all other values, and one for NULL.

    Attributes:
        edges: upper edges of numeric bins, the last bin is open; empty for words.
        words: a bin each; empty for numbers.
    """

    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of bins, those of other values and of NULL included."""
        return len(self.edges or self.words) + 2

    def held(self, value: Column) -> list[Column]:
        """Conditions, one per bin: whether a value lies in it."""
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
    """Bins of the column ``value``; None where no word is frequent or no number is there.

    Args:
        value: columns ``value``, not NULL, and ``owner``, the client it is told of.
        words: whether the values are words; else they are numbers or times.
    """
    if words:
        keyed = value.select("owner", F.lit(WHOLE).alias("key"), F.col("value").cast("string").alias("value"))
        found = _frequent_words(keyed).get(WHOLE)
        return Bins(words=found) if found else None
    (row,) = value.agg(_edges(F.col("value").cast("double")).alias("edges")).collect()
    return Bins(edges=tuple(sorted(set(row["edges"] or ())))) if row["edges"] else None


def bins_of_keys(value: DataFrame) -> dict[str, Bins]:
    """Bins for each frequent key of the map ``value``: of numbers where every value reads as one, else of words."""
    keyed = value.select("owner", F.explode("value").alias("key", "value")).where("value IS NOT NULL")
    keyed = keyed.select(
        "owner", F.col("key").cast("string").alias("key"), F.col("value").cast("string").alias("value")
    )
    number = F.col("value").try_cast("double")
    said = (
        keyed.groupBy("key")
        .agg(
            F.count("*").alias("rows"),
            F.count_distinct("owner").alias("owners"),
            F.count(number).alias("numbers"),
            _edges(number).alias("edges"),
        )
        .where(F.col("owners") >= FEWEST)
        .orderBy(F.desc("rows"), "key")
        .limit(MAX_MAP_KEYS)
        .collect()
    )
    numbers = {
        row["key"]: Bins(edges=tuple(sorted(set(row["edges"])))) for row in said if row["rows"] == row["numbers"]
    }
    others = [row["key"] for row in said if row["key"] not in numbers]
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
        .where(F.col("owners") >= FEWEST)
    )
    ranked = counted.withColumn("rank", F.row_number().over(ranks)).where(F.col("rank") <= MAX_CATEGORIES)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in ranked.orderBy("key", "rank").collect():
        found[row["key"]].append(row["value"])
    return {key: tuple(words) for key, words in found.items()}
