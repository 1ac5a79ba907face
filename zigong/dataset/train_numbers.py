"""The bins of the numbers in the text, from nothing but the train split."""

from __future__ import annotations

from pyspark.sql import DataFrame

from zigong.dataset.members import split_column
from zigong.instructions.number_fit import fit_numbers
from zigong.instructions.numbers import NumberWords
from zigong.recipe import Recipe


def train_numbers(sequences: DataFrame, recipe: Recipe, quantiles: int) -> NumberWords:
    """Fits the bins on what the sequences of the train split show.

    These hold neither a held-out person nor anything that became known at or after the last train date.

    Args:
        sequences: rows of user_sequences of the recipe's dates.
        quantiles: see :func:`zigong.instructions.number_fit.fit_numbers`.
    """
    return fit_numbers(sequences.where(split_column(recipe) == "train"), recipe.instructions, quantiles)
