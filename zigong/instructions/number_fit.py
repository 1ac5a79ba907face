"""Fits the quantile bins of numbers on the sequences of the train split, in Spark.

The bounds are exact quantiles: numbers are counted by value and the counts summed in order, so that they do not depend
on partitions. Only the bounds reach the driver.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from functools import reduce
from operator import itemgetter
from typing import Any

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from zigong.instructions.numbers import NUMBER, FieldBins, Kind, NumberWords
from zigong.recipe import Instructions

_FIELD = ("kind", "name", "currency")
_SIDE = (*_FIELD, "negative")
_EXACT = "decimal(24,6)"


def fit_numbers(sequences: DataFrame, settings: Instructions, quantiles: int) -> NumberWords:
    """The bins of every field that the text shows.

    A number counts as often as the sequences show it. A field with at most ``quantiles`` values has a bin for each
    value. An attribute or a profile field has bins if more than half of its values are numbers.

    Args:
        sequences: rows of user_sequences in the train split; nothing else may influence the bins.
        settings: of the prompts: which fields are shown, and the main currency.
        quantiles: largest number of bins of positive numbers and of negative numbers.
    """
    shown = reduce(DataFrame.unionByName, [_days(sequences), *_others(sequences, settings)])
    counts = shown.where(F.col("kind").isin(_kinds(settings))).groupBy(*_FIELD, "number").count().persist()
    numbers = F.sum(F.when(F.col("number").isNotNull(), F.col("count")).otherwise(0))
    fields = counts.groupBy(*_FIELD).agg((2 * numbers > F.sum("count")).alias("numeric")).where("numeric").collect()
    bounds = _bounds(counts.where("number IS NOT NULL AND number != 0"), quantiles).collect()
    counts.unpersist()
    return _number_words(fields, bounds)


def _kinds(settings: Instructions) -> list[Kind]:
    """Where the text shows numbers."""
    shown: dict[Kind, bool] = {
        "days_past_due": "days_past_due" in settings.event_fields,
        "amount": "amount" in settings.event_fields,
        "attribute": "attributes" in settings.event_fields,
        "profile": settings.profile,
    }
    return [kind for kind, wanted in shown.items() if wanted]


def _days(sequences: DataFrame) -> DataFrame:
    days = F.col("event.days_past_due")
    return _of_events(sequences).where(days.isNotNull()).select(*_named("days_past_due"), _exact(days))


def _others(sequences: DataFrame, settings: Instructions) -> list[DataFrame]:
    events, pair = _of_events(sequences), F.col("value").rlike(rf"^(?:{NUMBER})\z")
    foreign = F.when(F.col("event.currency") != F.lit(settings.currency), F.col("event.currency"))
    amounts = events.where("event.amount IS NOT NULL").select(
        *_named("amount", F.col("event.event_type"), F.coalesce(foreign, F.lit(""))), _exact(F.col("event.amount"))
    )
    attributes = events.select(F.explode("event.attributes").alias("key", "value"))
    profiles = sequences.select(F.explode("profile").alias("key", "value"))
    texts = [
        pairs.select(*_named(kind, F.col("key")), _exact(F.when(pair, F.col("value"))))
        for kind, pairs in (("attribute", attributes), ("profile", profiles))
    ]
    return [amounts, *texts]


def _of_events(sequences: DataFrame) -> DataFrame:
    return sequences.select(F.explode("events").alias("event"))


def _named(kind: str, name: Column | None = None, currency: Column | None = None) -> list[Column]:
    parts = (F.lit(kind), F.lit("") if name is None else name, F.lit("") if currency is None else currency)
    return [part.alias(label) for part, label in zip(parts, _FIELD, strict=True)]


def _exact(number: Column) -> Column:
    return number.cast(_EXACT).alias("number")


def _bounds(counts: DataFrame, quantiles: int) -> DataFrame:
    """The upper bounds of the bins: the values at which the share of smaller or equal ones reaches k / quantiles."""
    sides = counts.select(*_FIELD, (F.col("number") < 0).alias("negative"), F.abs("number").alias("size"), "count")
    totals = sides.groupBy(*_SIDE).agg(
        F.sum("count").alias("total"), F.count("*").alias("distinct"), F.max("size").alias("largest")
    )
    upto = Window.partitionBy(*_SIDE).orderBy("size").rowsBetween(Window.unboundedPreceding, 0)
    summed = sides.withColumn("upto", F.sum("count").over(upto)).join(F.broadcast(totals), list(_SIDE))
    reached = F.expr(f"upto * {quantiles} div total > (upto - count) * {quantiles} div total")
    bound = (reached | (F.col("distinct") <= quantiles)) & (F.col("size") < F.col("largest"))
    return summed.where(bound).select(*_SIDE, "size")


def _number_words(fields: list[Row], bounds: list[Row]) -> NumberWords:
    found: dict[tuple[Any, ...], list[Decimal]] = defaultdict(list)
    side, field = itemgetter(*_SIDE), itemgetter(*_FIELD)
    for row in bounds:
        found[side(row)].append(Decimal(f"{row['size'].normalize():f}"))
    named = sorted(map(field, fields))
    return NumberWords(
        fields=tuple(
            FieldBins(
                kind=kind,
                name=name,
                currency=currency,
                above=tuple(sorted(found[kind, name, currency, False])),
                below=tuple(sorted(found[kind, name, currency, True])),
            )
            for kind, name, currency in named
        )
    )
