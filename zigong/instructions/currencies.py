"""The currencies of amounts: text and features never mix two of them silently."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.errors import DataError
from zigong.recipe import Instructions


def require_one_currency(sequences: DataFrame, settings: Instructions) -> None:
    """Requires that amounts are in one currency, unless the settings declare which one the text leaves out.

    Args:
        sequences: rows of user_sequences.
        settings: of the prompts about them.

    Raises:
        DataError: amounts are in several currencies, and none is declared the main one; the message names them.
    """
    if settings.currency is not None:
        return
    stated = sequences.select(F.explode("events").alias("event")).where("event.amount IS NOT NULL")
    found = sorted(row["currency"] for row in stated.select("event.currency").distinct().collect() if row["currency"])
    if len(found) > 1:
        raise DataError(
            f"user_sequences has amounts in {', '.join(found)}, but instructions.currency is not set: their texts "
            "would be equal and their sums wrong",
            action="set instructions.currency to the main one; the text then names the others. A model that was "
            "trained without it has to be replaced",
        )
