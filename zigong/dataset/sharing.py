"""Measures how much text the samples of one user share: the saving of a token tree in training and scoring."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window


@dataclass(frozen=True, kw_only=True)
class PrefixSharing:
    """Tokens of the prompts of a table.

    Attributes:
        tokens: tokens of all prompts, each counted separately.
        tree_tokens: tokens of one tree per user, in which a prompt adds only the tokens after its common prefix with
            the previous one.
    """

    tokens: int
    tree_tokens: int

    @property
    def shared(self) -> float:
        """Share of the tokens that a tree does not repeat."""
        return 1 - self.tree_tokens / self.tokens if self.tokens else 0.0


def prefix_sharing(samples: DataFrame) -> PrefixSharing:
    """Counts the tokens of instruction_samples, separately and as one tree per user.

    Args:
        samples: columns user_id, observation_at and input_ids.
    """
    earlier = F.lag("input_ids").over(Window.partitionBy("user_id").orderBy("observation_at", "sample_id"))
    prompts = samples.select("input_ids", earlier.alias("earlier"))
    size = F.size("input_ids")
    common = F.coalesce(_common_prefix(F.col("earlier"), F.col("input_ids")), F.lit(0))
    row = prompts.agg(F.sum(size).alias("tokens"), F.sum(size - common).alias("tree_tokens")).first()
    counts = row.asDict() if row is not None else {}
    return PrefixSharing(tokens=int(counts.get("tokens") or 0), tree_tokens=int(counts.get("tree_tokens") or 0))


def _common_prefix(left: Column, right: Column) -> Column:
    """Length of the common prefix of two arrays; null if one is null."""
    first_difference = F.array_position(F.zip_with(left, right, lambda a, b: a.eqNullSafe(b)), F.lit(False))
    return F.when(first_difference == 0, F.size(right)).otherwise(first_difference - 1)
