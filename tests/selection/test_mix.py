"""The training mix: shares, quotas, caps, order and ties."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from zigong.errors import DataError
from zigong.recipe import Mix
from zigong.selection.mix import Stratum, influence_quotas, mix_size, training_mix

COLUMNS = "sample_id string, user_id string, observation_date date, task string, label int, score double, scope string"
DATES = tuple(date(2023, month, 1) for month in (1, 2, 3))


def pool(spark: SparkSession, size: int = 200) -> DataFrame:
    """Every tenth sample is bad; scores fall with the number; every 50th has none; the first 40 are of one user."""
    rows = [
        (
            f"s{i:04d}",
            "owner" if i < 40 else f"u{i % 45}",
            DATES[i % 3],
            "main",
            int(i % 10 == 0),
            None if i % 50 == 7 else float(size - i),
            "population",
        )
        for i in range(size)
    ]
    return spark.createDataFrame(rows, COLUMNS)


def mixed(frame: DataFrame, settings: Mix, seed: int = 1) -> list[Row]:
    rows = training_mix(frame, settings, seed=seed, mix_id="m").collect()
    return sorted(rows, key=lambda row: (row["share"], row["rank"]))


def influence(rows: list[Row]) -> set[str]:
    return {row["sample_id"] for row in rows if row["share"] == "influence"}


def test_the_mix_has_its_shares_and_no_duplicates(spark: SparkSession) -> None:
    found = mixed(pool(spark), Mix(fraction=0.5, influence_share=0.3))
    assert len({row["sample_id"] for row in found}) == len(found) == 100
    assert [row["rank"] for row in found] == [*range(1, 31), *range(1, 71)]


def test_the_influence_share_is_the_top_of_each_class_in_the_proportions_of_the_pool(spark: SparkSession) -> None:
    good = [f"s{i:04d}" for i in range(200) if i % 10 and i % 50 != 7][:27]
    assert influence(mixed(pool(spark), Mix(fraction=0.5, influence_share=0.3))) == {*good, "s0000", "s0010", "s0020"}


def test_ranked_over_the_complete_pool_the_influence_share_is_the_top_of_all_samples(spark: SparkSession) -> None:
    found = mixed(pool(spark), Mix(fraction=0.5, influence_share=0.3, rank="global"))
    assert influence(found) == {f"s{i:04d}" for i in range(200) if i % 50 != 7 and i < 31}


@pytest.mark.parametrize(("rank", "cap"), [("global", None), ("class", 3), ("period", None), ("class_period", 3)])
def test_every_ranking_keeps_sizes_quotas_and_caps(spark: SparkSession, rank: str, cap: int | None) -> None:
    frame = pool(spark)
    found = mixed(
        frame, Mix.model_validate({"fraction": 0.5, "influence_share": 0.3, "rank": rank, "max_per_user": cap})
    )
    assert len({row["sample_id"] for row in found}) == len(found) == 100
    assert len(influence(found)) == 30
    known = {row["sample_id"]: row for row in frame.collect()}
    users = Counter(known[row["sample_id"]]["user_id"] for row in found)
    assert max(users.values()) <= (cap or 40)
    keys = {
        "global": [],
        "class": ["label"],
        "period": ["observation_date"],
        "class_period": ["label", "observation_date"],
    }
    chosen = Counter(tuple(known[key][name] for name in keys[rank]) for key in influence(found))
    sizes = Counter(tuple(row[name] for name in keys[rank]) for row in known.values())
    assert all(abs(chosen[key] - 30 * sizes[key] / 200) < 1 for key in sizes)


def test_the_cap_keeps_the_best_samples_of_a_user(spark: SparkSession) -> None:
    found = mixed(pool(spark), Mix(fraction=0.4, influence_share=0.3, rank="global", max_per_user=2))
    assert influence(found) & {f"s{i:04d}" for i in range(40)} == {"s0000", "s0001"}


def test_scopes_are_ranked_separately_and_merged_by_quantile(spark: SparkSession) -> None:
    """Scores of one scope are a million times larger, but neither scope displaces the other."""
    rows = [
        (f"{scope[0]}{i:02d}", f"u{i}", DATES[0], "main", 0, size * (i - 3.0), scope)
        for scope, size in (("user", 1e6), ("population", 1.0))
        for i in range(20)
    ]
    found = mixed(spark.createDataFrame(rows, COLUMNS), Mix(fraction=0.5, influence_share=0.5))
    assert influence(found) == {f"{scope}{i}" for scope in "up" for i in (15, 16, 17, 18, 19)}


@pytest.mark.parametrize("rank", ["global", "class_period"])
def test_every_task_contributes_its_top_whatever_the_scale_of_its_scores(spark: SparkSession, rank: str) -> None:
    alike = pool(spark).where("observation_date < '2023-03-01'").limit(120).localCheckpoint()
    changed = {"sample_id": F.concat(F.lit("t"), "sample_id"), "task": F.lit("other"), "score": F.col("score") / 1000}
    settings = Mix.model_validate({"fraction": 0.5, "influence_share": 0.5, "rank": rank})
    alone = influence(mixed(alike, settings))
    found = influence(mixed(alike.union(alike.withColumns(changed)), settings))
    assert found == alone | {f"t{key}" for key in alone}


def test_the_cap_counts_the_samples_of_all_tasks_of_a_user(spark: SparkSession) -> None:
    changed = {"sample_id": F.concat(F.lit("t"), "sample_id"), "task": F.lit("other")}
    frame = pool(spark).union(pool(spark).withColumns(changed))
    owners = {row["sample_id"]: row["user_id"] for row in frame.collect()}
    found = mixed(frame, Mix(fraction=0.3, influence_share=0.3, max_per_user=3))
    assert len(found) == 120
    assert max(Counter(owners[row["sample_id"]] for row in found).values()) == 3


@pytest.mark.soak
def test_the_mix_depends_on_the_seed_and_not_on_partitions(spark: SparkSession) -> None:
    settings = Mix(fraction=0.4, influence_share=0.3, max_per_user=4)
    first = mixed(pool(spark), settings)
    assert mixed(pool(spark).repartition(7), settings) == first
    assert mixed(pool(spark), settings, seed=2) != first


def test_equal_scores_are_ordered_by_sample_id(spark: SparkSession) -> None:
    rows = [(f"s{i}", f"u{i}", DATES[0], "main", 0, 1.0, "population") for i in range(8)]
    frame = spark.createDataFrame(rows, COLUMNS).repartition(3)
    found = mixed(frame, Mix(fraction=0.5, influence_share=0.5))
    assert [(row["sample_id"], row["rank"]) for row in found if row["share"] == "influence"] == [("s0", 1), ("s1", 2)]


def test_a_cap_that_the_pool_cannot_satisfy_is_rejected(spark: SparkSession) -> None:
    with pytest.raises(DataError, match="users below the cap have"):
        mixed(pool(spark), Mix(fraction=0.5, influence_share=0.1, rank="global", max_per_user=1))
    with pytest.raises(DataError, match="within the cap"):
        mixed(pool(spark), Mix(fraction=0.9, influence_share=0.9, rank="global", max_per_user=1))


def test_quotas_add_up_to_the_share_by_largest_remainders() -> None:
    strata = [
        Stratum(task="main", key="main/0", samples=95, scored=95),
        Stratum(task="main", key="main/1", samples=8, scored=8),
    ]
    settings = Mix(fraction=0.5, influence_share=0.3)
    assert (mix_size(strata, settings), influence_quotas(strata, settings)) == (51, {"main/0": 14, "main/1": 1})
    many = [Stratum(task="main", key=f"{i:02d}", samples=10 + i, scored=10) for i in range(12)]
    assert sum(influence_quotas(many, settings).values()) == round(0.3 * mix_size(many, settings))


def test_too_few_scored_samples_are_rejected() -> None:
    strata = [
        Stratum(task="main", key="main/0", samples=90, scored=90),
        Stratum(task="main", key="main/1", samples=10, scored=0),
    ]
    with pytest.raises(DataError, match="needs 1 scored samples of stratum main/1, the pool has 0"):
        influence_quotas(strata, Mix(fraction=0.5, influence_share=0.3))
