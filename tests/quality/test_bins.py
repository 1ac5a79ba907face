"""Bins of a reference: deciles, frequent words, and bins for each key of a map."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.rules import TableRule
from zigong.quality.bins import MIN_CLIENTS, WHOLE
from zigong.quality.reference import Reference, made_reference

RULE = TableRule(name="stable", measure="psi", arguments={"of": "x"}, high=0.25)
MAP = "map('age', CAST(20 + id % 40 AS STRING), 'city', IF(id % 4 < {}, 'north', 'south'))"


def rows(spark: SparkSession, count: int, of_id: str) -> DataFrame:
    return spark.range(count).selectExpr(f"{of_id} AS x")


def made(frame: DataFrame) -> Reference:
    found = made_reference(frame, RULE, "r")
    assert found is not None
    return found


def counted(reference: Reference, frame: DataFrame) -> list[int]:
    (row,) = frame.agg(reference.count(F.lit(True)).alias("counts")).collect()
    return list(row["counts"])


def test_numbers_are_binned_in_deciles_and_null_is_counted_separately(spark: SparkSession) -> None:
    reference = made(rows(spark, 101, "IF(id = 100, NULL, CAST(id AS DECIMAL(9, 2)))"))
    assert reference.bins[WHOLE].edges == (9, 19, 29, 39, 49, 59, 69, 79, 89)
    assert reference.counts == {WHOLE: (*[10] * 10, 1)}
    assert reference.drift(reference.counts[WHOLE]) == (WHOLE, 0)


def test_no_reference_contains_rare_words_or_rare_keys(spark: SparkSession) -> None:
    words = rows(spark, 2 * MIN_CLIENTS - 1, f"IF(id < {MIN_CLIENTS}, 'often', concat('rare', id))")
    assert made(words).bins[WHOLE].words == ("often",)
    assert made(words).counts[WHOLE] == (MIN_CLIENTS, MIN_CLIENTS - 1, 0)
    assert made_reference(words.where("x <> 'often'"), RULE, "r") is None
    rare = rows(spark, 2 * MIN_CLIENTS - 1, f"map(IF(id < {MIN_CLIENTS}, 'city', 'secret'), 'a')")
    assert set(made(rare).bins) == {"city"}


def test_a_word_that_one_client_repeats_is_not_frequent(spark: SparkSession) -> None:
    words = spark.range(40).selectExpr(
        "IF(id < 20, 'one', concat('u', id)) AS user_id", "IF(id < 20, 'secret', 'a') AS x"
    )
    assert made(words).bins[WHOLE].words == ("a",)
    maps = words.selectExpr("user_id", "map('city', x) AS x")
    assert made(maps).bins["city"].words == ("a",)


def test_drift_of_a_map_names_the_key_that_moved_most(spark: SparkSession) -> None:
    before, after = (rows(spark, 400, MAP.format(north)) for north in (2, 3))
    reference = made(before)
    assert reference.bins["city"].words == ("north", "south")
    assert len(reference.bins["age"].edges) == 9
    key, index = reference.drift(counted(reference, after))
    assert key == "city"
    assert index == pytest.approx(0.2718, abs=0.005)
    assert reference.drift(counted(reference, before))[1] == 0


def test_words_in_place_of_numbers_count_as_other_values(spark: SparkSession) -> None:
    reference = made(rows(spark, 40, "map('age', CAST(id AS STRING))"))
    found = reference.by_key(counted(reference, rows(spark, 7, "map('age', 'forty')")))["age"]
    assert (found[-2:], sum(found)) == ((7, 0), 7)
