"""Duplicate samples: near pairs equal those of a brute-force search, and the numbers of dropped samples add up."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from zigong.dataset.duplicates import Repetitions, distinct_texts, near_pairs, repeated_samples
from zigong.dataset.minhash import Bands
from zigong.recipe import Duplicates

SETTINGS = Duplicates(threshold=0.8)
COLUMNS = "sample_id string, user_id string, split string, text_hash string, completion string, input_ids array<int>"
Pair = tuple[str, str, str]


def corpus(texts: int, seed: int) -> list[tuple[Any, ...]]:
    """Texts with a small vocabulary: copies of some originals with up to three tokens changed, added or removed."""
    chance = random.Random(seed)  # noqa: S311

    def words(count: int) -> list[int]:
        return [min(int(chance.expovariate(0.5)), 11) for _ in range(count)]

    originals = [words(count) for count in (1, 2, 3, *([20, 40, 80] * 10))]
    rows = []
    for number in range(texts):
        ids = list(chance.choice(originals))
        for _ in range(chance.randint(0, 3)):
            place = chance.randint(0, len(ids))
            ids[place : place + chance.randint(0, 1)] = words(chance.randint(0, 1))
        ids = ids or [1]
        split = chance.choice(["train", "train", "train", "oot", "target"])
        answer, text = chance.choice(["Yes", "No"]), "-".join(map(str, ids))
        rows.append((f"s{number:04d}", f"u{chance.randrange(40)}", split, text, answer, ids))
    return rows


def bag(ids: list[int]) -> Counter[tuple[int, ...]]:
    width = SETTINGS.shingle_tokens
    return Counter(tuple(ids[start : start + width]) for start in range(max(len(ids) - width + 1, 1)))


def alike(one: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> float:
    return sum((one & other).values()) / sum((one | other).values())


def brute_force(rows: list[tuple[Any, ...]]) -> dict[Pair, float]:
    """Every near pair by definition, two samples at a time."""
    texts: dict[tuple[str, str, str], list[tuple[Any, ...]]] = {}
    for row in sorted(rows):
        texts.setdefault((f"{row[3]}|{row[4]}", row[2], row[4]), []).append(row)
    bags = {text: bag(rows[0][5]) for text, rows in texts.items()}
    found = {}
    for (one, of_one), (other, of_other) in combinations(texts.items(), 2):
        if one[2] != other[2] or one[0] == other[0] or len({row[1] for row in of_one + of_other}) == 1:
            continue
        first, second = sorted([(one, of_one), (other, of_other)], key=lambda item: (item[0][1] == "train", item[1]))
        similarity = alike(bags[first[0]], bags[second[0]])
        if second[0][1] == "train" and similarity >= SETTINGS.threshold:
            found[first[0][0], first[0][1], second[0][0]] = similarity
    return found


def found_pairs(frame: DataFrame, settings: Duplicates = SETTINGS) -> dict[Pair, float]:
    rows = near_pairs(distinct_texts(frame, "user_id"), settings).pairs.collect()
    pairs = {(row["text"], row["split"], row["other_text"]): row["similarity"] for row in rows}
    assert len(pairs) == len(rows)
    return pairs


def test_near_pairs_equal_those_of_a_brute_force_search(spark: SparkSession) -> None:
    rows = corpus(500, seed=1)
    expected = brute_force(rows)
    found = found_pairs(spark.createDataFrame(rows, COLUMNS))

    assert set(found) <= set(expected), "a pair below the threshold was reported"
    assert all(found[pair] == pytest.approx(expected[pair]) for pair in found)
    assert len({similarity for similarity in expected.values() if similarity < 0.85}) > 10
    assert {split for _, split, _ in expected} == {"train", "oot", "target"}
    recall = len(found) / len(expected)
    print(f"recall {recall:.4f} of {len(expected)} pairs")  # noqa: T201
    assert recall >= 0.99


def test_a_pair_at_the_threshold_shares_a_bucket_with_probability_99_percent() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9, 0.95):
        cut = Bands.of(threshold)
        assert cut.recall(threshold) >= 0.99
        assert cut.rows * cut.bands <= 128
        assert Bands(rows=cut.rows + 1, bands=128 // (cut.rows + 1)).recall(threshold) < 0.99


def test_duplicates_do_not_depend_on_order_or_partitions(spark: SparkSession) -> None:
    rows = corpus(150, seed=2)
    settings = Duplicates(threshold=0.8, exact="drop", near="drop", contamination="drop", max_bucket=3)

    def found(rows: list[tuple[Any, ...]], parts: int) -> tuple[list[tuple[str, str]], Repetitions]:
        frame = spark.createDataFrame(rows, COLUMNS).repartition(parts)
        dropped, counts = repeated_samples(frame, settings, "user_id")
        return sorted((row["sample_id"], row["reason"]) for row in dropped.collect()), counts

    first = found(rows, 1)
    assert found(list(reversed(rows)), 5) == first
    assert first[1].crowded_texts > 0


A, NEAR_A, B = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], [5] * 12
FEW = [
    ("s01", "u1", "train", "a", "No", A),
    ("s02", "u2", "train", "a", "No", A),  # equal to s01
    ("s03", "u3", "train", "a", "Yes", A),  # another answer is another sample
    ("s04", "u1", "train", "near", "No", NEAR_A),  # of u1, as s01, but u2 has the text of s01 too
    ("s05", "u9", "train", "b", "No", B),
    ("s06", "u9", "train", "b+", "No", [*B, 5]),  # near s05, of the same unit
    ("s07", "u4", "oot", "b", "No", B),
    ("s08", "u5", "select", "b-", "No", B[1:]),
    ("s09", "u6", "test", "z", "No", [77, 78, 79]),
]


@pytest.mark.parametrize(
    ("dropping", "dropped"),
    [
        ({"near": "drop"}, {"s04": "near_duplicate"}),
        (
            {"exact": "drop", "contamination": "drop"},
            {"s02": "exact_duplicate", "s05": "contaminated", "s06": "contaminated"},
        ),
    ],
)
def test_the_smallest_sample_id_is_kept_and_reasons_are_recorded(
    spark: SparkSession, dropping: dict[str, str], dropped: dict[str, str]
) -> None:
    settings = Duplicates.model_validate({"threshold": 0.8, **dropping})
    rows, counts = repeated_samples(spark.createDataFrame(FEW, COLUMNS), settings, "user_id")

    assert {row["sample_id"]: row["reason"] for row in rows.collect()} == dropped
    assert counts == Repetitions(
        exact=1, near=1, held_out_exact={"oot": 1}, held_out_near={"oot": 1, "select": 2}, crowded_texts=0
    )


def test_by_default_nothing_is_dropped_and_without_near_only_equal_texts_are_found(spark: SparkSession) -> None:
    dropped, counts = repeated_samples(spark.createDataFrame(FEW, COLUMNS), Duplicates(near="ignore"), "user_id")
    assert dropped.count() == 0
    assert counts == Repetitions(exact=1, near=0, held_out_exact={"oot": 1}, held_out_near={}, crowded_texts=0)


@pytest.mark.soak
def test_ten_thousand_equal_and_a_thousand_near_prompts_do_not_cost_all_pairs(spark: SparkSession) -> None:
    """1,000 near texts share their buckets; all pairs would be half a million."""
    near = [(f"n{n:05d}", f"v{n}", "train", f"n{n}", "No", [*range(100), 1000 + n]) for n in range(1_000)]
    equal = [(f"z{n:05d}", f"u{n}", "train", "n0", "No", near[0][5]) for n in range(10_000)]
    frame = spark.createDataFrame(near + equal, COLUMNS)
    settings = Duplicates(max_bucket=5)

    # A text with another smallest hash is missing in some buckets, so a few bands have other first texts.
    assert 5 * 990 < len(found_pairs(frame, settings)) < 5 * 1_000 * 4
    _, counts = repeated_samples(frame, settings, "user_id")
    assert counts == Repetitions(exact=10_000, near=999, held_out_exact={}, held_out_near={}, crowded_texts=995)
