"""Finds attributes that alone separate bad from good almost perfectly, as a value written after the outcome does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

LARGEST_AUC = 0.9  # of one attribute
LEAST_SAMPLES = 100  # with one value, none of them of one class
LEAST_EXPECTED = 20.0  # samples of the class that such a value lacks, at the overall bad rate; chance has e**-20
MIN_VALUE_SAMPLES = 30  # samples of a value; rarer values of an attribute are merged
MAX_VALUES = 1000  # values of an attribute that are distinguished
BINS_PER_DECADE = 5  # of numbers
LARGEST_NUMBER = 1e300  # beyond it, as for NaN, a word is no number
ANY, OTHER = "", "#other"  # values of an attribute: any, and all rare ones

Counts = tuple[int, int]  # samples, bad


@dataclass(frozen=True, kw_only=True)
class Separation:
    """How well one attribute alone separates the classes.

    Attributes:
        attribute: its key; values are never named.
        auc: of its values ranked by their bad rate; 0.5 means that it carries no information.
        one_sided: largest number of samples that share a value, or its absence, and are all of one class although both
            were to be expected; 0 if there are none.
    """

    attribute: str
    auc: float
    one_sided: int

    @property
    def is_alarming(self) -> bool:
        """Whether the attribute is likely to leak the outcome."""
        return self.auc > LARGEST_AUC or self.one_sided > 0


def attribute_separations(prompts: DataFrame) -> tuple[Separation, ...]:
    """The separation of every attribute, of profiles and events, in the prompts of one question; strongest first.

    Args:
        prompts: one row per sample: ``prompt``, whose attributes are words ``key=value``, and ``label`` (1 = bad).
    """
    totals = _totals(prompts)
    pairs = prompts.select("label", F.explode(_values(F.col("prompt"))).alias("pair"))
    found = [_separation(key, values, totals) for key, values in _counts(pairs, totals[0]).items()]
    return tuple(sorted(found, key=lambda one: (-one.one_sided, -one.auc, one.attribute)))


def _totals(prompts: DataFrame) -> Counts:
    (row,) = prompts.agg(F.count("*").alias("samples"), F.coalesce(F.sum("label"), F.lit(0)).alias("bad")).collect()
    return int(row["samples"]), int(row["bad"])


def _values(prompt: Column) -> Column:
    """The distinct pairs ``key=value`` of a prompt, and ``key=`` for every key it contains."""
    words = F.filter(F.split(prompt, r"\s+"), lambda word: word.contains("="))
    keys = F.transform(words, lambda word: F.concat(F.substring_index(word, "=", 1), F.lit("=")))
    return F.array_distinct(F.concat(F.transform(words, _value), keys))


def _value(word: Column) -> Column:
    """A word, its number rounded so that there are few: five bins per decade."""
    key, value = F.substring_index(word, "=", 1), F.substring_index(word, "=", -1)
    number = value.try_cast("double")
    size = F.floor(F.log10(F.abs(number)) * BINS_PER_DECADE)
    rounded = F.concat(key, F.lit("="), F.signum(number).cast("string"), F.lit("#"), size.cast("string"))
    return F.when((F.abs(number) < LARGEST_NUMBER) & (number != 0), rounded).otherwise(word)


def _counts(pairs: DataFrame, total: int) -> dict[str, dict[str, Counts]]:
    """Samples and bad of every value of every attribute; its rare values are one."""
    key = F.substring_index("pair", "=", 1)
    value = F.substring_index("pair", "=", -1)
    counted = pairs.groupBy("pair").agg(F.count("*").alias("samples"), F.sum("label").alias("bad"))
    rare = (F.col("samples") < max(MIN_VALUE_SAMPLES, total // MAX_VALUES)) & (value != ANY)
    merged = counted.select(
        key.alias("key"), F.when(rare, F.lit(OTHER)).otherwise(value).alias("value"), "samples", "bad"
    )
    summed = merged.groupBy("key", "value").agg(F.sum("samples").alias("samples"), F.sum("bad").alias("bad"))
    by_key: defaultdict[str, dict[str, Counts]] = defaultdict(dict)
    for row in summed.collect():
        by_key[row["key"]][row["value"]] = (int(row["samples"]), int(row["bad"]))
    return by_key


def _separation(attribute: str, values: Mapping[str, Counts], totals: Counts) -> Separation:
    """The separation of an attribute from the counts of its values; ``ANY`` counts the samples that have it."""
    having = values[ANY]
    of_values = {value: counts for value, counts in values.items() if value != ANY}
    absent = (totals[0] - having[0], totals[1] - having[1])
    if sum(samples for samples, _ in of_values.values()) == having[0]:  # one value per sample: the values divide them
        parts = [*of_values.values(), absent]
        return Separation(attribute=attribute, auc=_auc(parts), one_sided=_one_sided(parts, totals))
    splits = [
        [counts, (totals[0] - counts[0], totals[1] - counts[1])] for value, counts in values.items() if value != OTHER
    ]
    return Separation(
        attribute=attribute,
        auc=max(_auc(parts) for parts in splits),
        one_sided=max(_one_sided(parts, totals) for parts in splits),
    )


def _auc(parts: Sequence[Counts]) -> float:
    """AUC of parts of the samples, ranked by their bad rate; 0.5 without both classes."""
    ordered = sorted((part for part in parts if part[0]), key=lambda part: part[1] / part[0])
    bad = np.array([part[1] for part in ordered], dtype=np.float64)
    good = np.array([part[0] for part in ordered], dtype=np.float64) - bad
    if not bad.sum() or not good.sum():
        return 0.5
    before = np.cumsum(good) - good
    return float(np.sum(bad * (before + good / 2)) / (bad.sum() * good.sum()))


def _one_sided(parts: Sequence[Counts], totals: Counts) -> int:
    rate = totals[1] / totals[0] if totals[0] else 0.0
    found = [
        samples
        for samples, bad in parts
        if samples >= LEAST_SAMPLES
        and (
            (bad == 0 and samples * rate >= LEAST_EXPECTED)
            or (bad == samples and samples * (1 - rate) >= LEAST_EXPECTED)
        )
    ]
    return max(found, default=0)
