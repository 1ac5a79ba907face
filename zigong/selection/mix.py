"""Selects the training mix: first the share with the highest influence, then random samples from the rest.

Scores are ranked within a task, since gradients of answers to different questions are not comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import floor

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.errors import DataError
from zigong.files.digests import json_digest
from zigong.recipe import Mix


def mix_identity(dataset_id: str, scorer_id: str, settings: Mix, seed: int) -> str:
    """Digest of the inputs of a mix."""
    content = {"dataset": dataset_id, "scorer": scorer_id, "mix": settings.model_dump(mode="json"), "seed": seed}
    return "mix-" + json_digest(content)[:16]


STRATA = {
    "global": ("task",),
    "class": ("task", "label"),
    "period": ("task", "observation_date"),
    "class_period": ("task", "label", "observation_date"),
}


def training_mix(pool: DataFrame, settings: Mix, *, seed: int, mix_id: str) -> DataFrame:
    """Selects the mix.

    Args:
        pool: the training samples with columns ``sample_id``, ``user_id``, ``observation_date``, ``task``, ``label``,
            ``score`` (null if there is none) and ``scope``.
        settings: size, influence share, ranking groups within a task, and the cap per user.
        seed: seed of the random share.

    Returns:
        Rows of the contract training_mix: ``floor(fraction * pool)`` distinct samples, no user above the cap.

    Raises:
        DataError: the pool has too few scored samples for the influence share, or too few users for the cap.
    """
    placed = ranked_pool(pool, settings)
    strata = _strata(placed)
    quotas = influence_quotas(strata, settings)
    best_first = Window.partitionBy("stratum", "candidate").orderBy(F.col("quantile").desc(), F.col("sample_id"))
    quota = F.create_map(*(F.lit(item) for pair in quotas.items() for item in pair))[F.col("stratum")]
    marked = placed.withColumn("chosen", F.col("candidate") & (F.row_number().over(best_first) <= quota))
    influence = _ranked(marked.where("chosen"), "influence", F.col("quantile").desc(), F.col("sample_id"))
    drawn = F.xxhash64(F.lit(seed), "sample_id")
    rest = _ranked(_within_cap(marked, settings, drawn), "random", drawn, F.col("sample_id"))
    random_size = mix_size(strata, settings) - sum(quotas.values())
    _require_enough(rest, random_size, settings)
    mix = influence.unionByName(rest.where(F.col("rank") <= random_size))
    return mix.select(F.lit(mix_id).alias("mix_id"), *table_contract("training_mix").column_names[1:])


def mixes_of(
    pool: DataFrame, settings: Mix, *, seed: int, dataset_id: str, scorer_id: str
) -> tuple[DataFrame, tuple[str, ...]]:
    """The mix and, where it will be tested, the random samples that replace it if it is worse.

    Args:
        pool: see :func:`training_mix`.

    Returns:
        Rows of the contract training_mix of one or two mixes, and their ids, the wanted mix first.

    Raises:
        DataError: see :func:`training_mix`.
    """
    wanted = [settings]
    if settings.proxy_samples and settings.influence_share:
        wanted.append(settings.model_copy(update={"influence_share": 0.0}))
    ids = tuple(mix_identity(dataset_id, scorer_id, one, seed) for one in wanted)
    first, *others = (
        training_mix(pool, one, seed=seed, mix_id=mix_id) for one, mix_id in zip(wanted, ids, strict=True)
    )
    return reduce(DataFrame.unionByName, others, first), ids


def ranked_pool(pool: DataFrame, settings: Mix) -> DataFrame:
    """The pool with stratum, quantile of the score, and whether a sample is a candidate for the influence share.

    Scores against a user's own tests and against the population have different scales, so each scope is ranked
    separately within its stratum, and the quantiles (0 to 1, ties share the mean) merge them. With a cap, a user's
    candidates are its ``max_per_user`` best samples.
    """
    stratum = F.concat_ws("/", *(F.col(name).cast("string") for name in STRATA[settings.rank]))
    scored = pool.select(
        "sample_id",
        "user_id",
        "task",
        "label",
        "score",
        stratum.alias("stratum"),
        F.col("score").isNotNull().alias("scored"),
        F.coalesce("scope", F.lit("none")).alias("scope"),
    )
    alike = ("stratum", "scope", "scored")
    up = Window.partitionBy(*alike).orderBy("score")
    size = F.count("*").over(Window.partitionBy(*alike))
    middle = (F.rank().over(up) - 1 + F.cume_dist().over(up) * size) / (2 * size)
    ranked = scored.withColumn("quantile", F.when(F.col("scored"), middle))
    if settings.max_per_user is None:
        return ranked.withColumn("candidate", F.col("scored"))
    own = Window.partitionBy("user_id").orderBy(F.col("quantile").desc_nulls_last(), F.col("sample_id"))
    return ranked.withColumn("candidate", F.col("scored") & (F.row_number().over(own) <= settings.max_per_user))


def _within_cap(marked: DataFrame, settings: Mix, drawn: Column) -> DataFrame:
    """The samples available to the random share: for each user at most the number that the cap still allows."""
    rest = marked.where("NOT chosen")
    if settings.max_per_user is None:
        return rest
    user = Window.partitionBy("user_id")
    left = F.lit(settings.max_per_user) - F.sum(F.col("chosen").cast("int")).over(user)
    order = F.row_number().over(Window.partitionBy("user_id", "chosen").orderBy(drawn, "sample_id"))
    return marked.withColumn("allowed", order <= left).where("NOT chosen AND allowed").drop("allowed")


def _require_enough(rest: DataFrame, random_size: int, settings: Mix) -> None:
    if settings.max_per_user is None:
        return
    found = rest.count()
    if found < random_size:
        raise DataError(
            f"the random share needs {random_size} samples, users below the cap have {found}",
            action="raise mix.max_per_user or lower mix.fraction",
        )


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """A part of the pool that is ranked separately: a task, or a part of one.

    Attributes:
        task: the task it belongs to.
        key: task, then label and observation date if scores are ranked within them, such as ``card/1``.
        scored: number of samples with a score, after the cap per user.
    """

    task: str
    key: str
    samples: int
    scored: int


def mix_size(strata: Sequence[Stratum], settings: Mix) -> int:
    """Number of samples in the mix."""
    return floor(settings.fraction * sum(stratum.samples for stratum in strata))


def influence_quotas(strata: Sequence[Stratum], settings: Mix) -> dict[str, int]:
    """Number of samples from each stratum in the influence share: proportional to the pool by task, then within it.

    Raises:
        DataError: a stratum has fewer scored samples than its quota.
    """
    wanted = round(settings.influence_share * mix_size(strata, settings))
    tasks: dict[str, dict[str, int]] = {}
    for stratum in strata:
        tasks.setdefault(stratum.task, {})[stratum.key] = stratum.samples
    of_tasks = _apportioned(wanted, {task: sum(sizes.values()) for task, sizes in tasks.items()})
    quotas = {key: size for task, sizes in tasks.items() for key, size in _apportioned(of_tasks[task], sizes).items()}
    for stratum in strata:
        if stratum.scored < quotas[stratum.key]:
            raise DataError(
                f"the influence share needs {quotas[stratum.key]} scored samples of stratum {stratum.key}, "
                f"the pool has {stratum.scored} within the cap",
                action="lower mix.influence_share, raise mix.max_per_user, or set influence.pairs: all",
            )
    return quotas


def _apportioned(wanted: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Divides a number in proportion to ``sizes`` by largest remainders; ties go in the order of the keys."""
    total = sum(sizes.values())
    exact = {key: wanted * size / total for key, size in sizes.items()}
    quotas = {key: floor(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: (quotas[key] - exact[key], key))
    for key in by_remainder[: wanted - sum(quotas.values())]:
        quotas[key] += 1
    return quotas


def _strata(placed: DataFrame) -> list[Stratum]:
    counts = (F.count("*").alias("samples"), F.sum(F.col("candidate").cast("int")).alias("scored"))
    rows = placed.groupBy("task", "stratum").agg(*counts).orderBy("stratum").collect()
    return [Stratum(task=row["task"], key=row["stratum"], samples=row["samples"], scored=row["scored"]) for row in rows]


def _ranked(rows: DataFrame, share: str, *order: Column) -> DataFrame:
    named = rows.withColumn("share", F.lit(share))
    return named.withColumn("rank", F.row_number().over(Window.partitionBy("share").orderBy(*order)))
