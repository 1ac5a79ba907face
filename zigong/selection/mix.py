"""Influence scores to the training mix: the highest-influence share first, then random samples from the rest.

Scores rank within a task: gradients of answers to different questions are not compared with each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.errors import DataError
from zigong.recipe import Mix


def mix_identity(dataset_id: str, scorer_id: str, settings: Mix, seed: int) -> str:
    """Digest of what a mix is made from."""
    content = {"dataset": dataset_id, "scorer": scorer_id, "mix": settings.model_dump(mode="json"), "seed": seed}
    return "mix-" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def training_mix(pool: DataFrame, settings: Mix, *, seed: int, mix_id: str) -> DataFrame:
    """Selects the mix.

    Args:
        pool: the training samples with columns ``sample_id``, ``task``, ``label`` and ``score`` (null where none).
        settings: size, share and whether ranks run within each label of a task.
        seed: of the random share.

    Returns:
        Rows of the contract training_mix: ``floor(fraction * pool)`` samples, none twice.

    Raises:
        DataError: the pool has too few scored samples for the influence share.
    """
    stratum = F.concat_ws("/", "task", "label") if settings.per_class else F.col("task")
    placed = pool.withColumn("stratum", stratum)
    strata = _strata(placed)
    quotas = influence_quotas(strata, settings)
    by_score = Window.partitionBy("stratum").orderBy(F.col("score").desc_nulls_last(), F.col("sample_id"))
    quota = F.create_map(*(F.lit(item) for pair in quotas.items() for item in pair))[F.col("stratum")]
    chosen = (F.row_number().over(by_score) <= quota) & F.col("score").isNotNull()
    marked = placed.withColumn("chosen", chosen)
    influence = _ranked(marked.where("chosen"), "influence", F.col("score").desc(), F.col("sample_id"))
    rest = _ranked(marked.where("NOT chosen"), "random", F.xxhash64(F.lit(seed), "sample_id"), F.col("sample_id"))
    random_size = mix_size(strata, settings) - sum(quotas.values())
    mix = influence.unionByName(rest.where(F.col("rank") <= random_size))
    return mix.select(F.lit(mix_id).alias("mix_id"), *table_contract("training_mix").column_names[1:])


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """One task of the pool, or one class of it.

    Attributes:
        key: ``task/label``, or the task when ranks run over both classes.
        scored: samples that have a score.
    """

    key: str
    samples: int
    scored: int


def mix_size(strata: Sequence[Stratum], settings: Mix) -> int:
    """Samples in the mix."""
    return floor(settings.fraction * sum(stratum.samples for stratum in strata))


def influence_quotas(strata: Sequence[Stratum], settings: Mix) -> dict[str, int]:
    """How many samples each stratum gives to the influence share, in the proportions of the pool.

    Raises:
        DataError: a stratum has fewer scored samples than its quota.
    """
    total = sum(stratum.samples for stratum in strata)
    wanted = round(settings.influence_share * mix_size(strata, settings))
    quotas = {stratum.key: floor(wanted * stratum.samples / total) for stratum in strata}
    largest = max(strata, key=lambda stratum: (stratum.samples, stratum.key))
    quotas[largest.key] += wanted - sum(quotas.values())
    for stratum in strata:
        if stratum.scored < quotas[stratum.key]:
            raise DataError(
                f"the influence share needs {quotas[stratum.key]} scored samples of stratum {stratum.key}, "
                f"the pool has {stratum.scored}",
                action="lower mix.influence_share, or set influence.pairs: all",
            )
    return quotas


def _strata(placed: DataFrame) -> list[Stratum]:
    rows = placed.groupBy("stratum").agg(F.count("*").alias("samples"), F.count("score").alias("scored")).collect()
    return [Stratum(key=row["stratum"], samples=row["samples"], scored=row["scored"]) for row in rows]


def _ranked(rows: DataFrame, share: str, *order: Column) -> DataFrame:
    named = rows.withColumn("share", F.lit(share))
    return named.withColumn("rank", F.row_number().over(Window.partitionBy("share").orderBy(*order)))
