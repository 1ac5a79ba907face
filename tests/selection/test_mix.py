"""The training mix: shares, quotas, order and ties."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from zigong.errors import DataError
from zigong.recipe import Mix
from zigong.selection.mix import Stratum, influence_quotas, mix_size, training_mix

POOL = "sample_id string, task string, label int, score double"


def pool(spark: SparkSession, size: int = 200) -> DataFrame:
    """Every tenth sample is bad; scores fall with the number; every 50th has none."""
    rows = [(f"s{i:04d}", "main", int(i % 10 == 0), None if i % 50 == 7 else float(size - i)) for i in range(size)]
    return spark.createDataFrame(rows, POOL)


def mixed(spark: SparkSession, frame: DataFrame, settings: Mix, seed: int = 1) -> list[tuple[str, str, int, int]]:
    rows = training_mix(frame, settings, seed=seed, mix_id="m").collect()
    return sorted((row["share"], row["sample_id"], row["rank"], row["label"]) for row in rows)


def test_the_mix_holds_its_shares_and_no_sample_twice(spark: SparkSession) -> None:
    found = mixed(spark, pool(spark), Mix(fraction=0.5, influence_share=0.3))
    assert len(found) == 100
    assert len({key for _, key, _, _ in found}) == 100
    assert sum(share == "influence" for share, *_ in found) == 30


def test_the_influence_share_is_the_top_of_each_class_in_the_proportions_of_the_pool(spark: SparkSession) -> None:
    found = mixed(spark, pool(spark), Mix(fraction=0.5, influence_share=0.3))
    chosen = {key for share, key, _, _ in found if share == "influence"}
    good = [f"s{i:04d}" for i in range(200) if i % 10 and i % 50 != 7][:27]
    assert chosen == {*good, "s0000", "s0010", "s0020"}


def test_over_both_classes_the_top_is_the_top_of_all(spark: SparkSession) -> None:
    found = mixed(spark, pool(spark), Mix(fraction=0.5, influence_share=0.3, per_class=False))
    chosen = {key for share, key, _, _ in found if share == "influence"}
    assert chosen == {f"s{i:04d}" for i in range(200) if i % 50 != 7 and i < 31}


@pytest.mark.parametrize("per_class", [True, False])
def test_every_task_gives_its_own_top_whatever_the_scale_of_its_scores(spark: SparkSession, per_class: bool) -> None:
    other = pool(spark).selectExpr("concat('t', sample_id) AS sample_id", "'other' AS task", "label", "score / 1000")
    settings = Mix(fraction=0.5, influence_share=0.3, per_class=per_class)
    alone = {key for share, key, *_ in mixed(spark, pool(spark), settings) if share == "influence"}
    found = {key for share, key, *_ in mixed(spark, pool(spark).union(other), settings) if share == "influence"}
    assert found == alone | {f"t{key}" for key in alone}


def test_the_mix_depends_on_the_seed_and_not_on_partitions(spark: SparkSession) -> None:
    settings = Mix(fraction=0.4, influence_share=0.3)
    first = mixed(spark, pool(spark), settings)
    assert mixed(spark, pool(spark).repartition(7), settings) == first
    assert mixed(spark, pool(spark), settings, seed=2) != first


def test_equal_scores_are_ordered_by_sample_id(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(f"s{i}", "main", 0, 1.0) for i in range(8)], POOL).repartition(3)
    found = mixed(spark, frame, Mix(fraction=0.5, influence_share=0.5))
    assert [(key, rank) for share, key, rank, _ in found if share == "influence"] == [("s0", 1), ("s1", 2)]


def test_quotas_add_up_to_the_share() -> None:
    strata = [Stratum(key="main/0", samples=95, scored=95), Stratum(key="main/1", samples=8, scored=8)]
    settings = Mix(fraction=0.5, influence_share=0.3)
    quotas = influence_quotas(strata, settings)
    assert (mix_size(strata, settings), quotas) == (51, {"main/0": 14, "main/1": 1})


def test_too_few_scored_samples_are_named() -> None:
    strata = [Stratum(key="main/0", samples=90, scored=90), Stratum(key="main/1", samples=10, scored=0)]
    with pytest.raises(DataError, match="needs 1 scored samples of stratum main/1, the pool has 0"):
        influence_quotas(strata, Mix(fraction=0.5, influence_share=0.3))
