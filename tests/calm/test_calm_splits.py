"""Splits of the CALM benchmark: sizes, rows and balance."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.public_data import public_data
from zigong.calm.prepared import prepared
from zigong.calm.records import read_raw
from zigong.calm.splits import balanced, split_rows
from zigong.calm.task_files import load_task
from zigong.errors import DataError

DATA, MARKS = public_data("calm")

PUBLISHED = {  # rows of the raw file, rows with the rarer label, and the sizes of train, validation and test
    "german": (1_000, 300, (700, 100, 200)),
    "australia": (690, 307, (482, 69, 139)),
    "credit_card_fraud": (284_807, 492, (7_974, 1_139, 2_279)),
    "ccfraud": (1_048_575, 62_000, (7_339, 1_048, 2_098)),
    "travel_insurance": (63_326, 927, (8_865, 1_266, 2_534)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_splits_have_the_published_sizes_and_share_no_row(name: str) -> None:
    rows, rarer, sizes = PUBLISHED[name]
    truths = ["rare"] * rarer + ["common"] * (rows - rarer)
    split = split_rows(truths, subsample=load_task(name).subsample)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    together = [*split.train, *split.validation, *split.test]
    assert len(set(together)) == sum(sizes)
    kept = sum(truths[row] == "rare" for row in together)
    assert abs(kept - rarer * sum(sizes) / rows) < 1


def test_equal_labels_in_equal_order_give_equal_splits_and_the_test_rows_keep_their_order() -> None:
    truths = ["a", "b", "b"] * 40
    first, again = (split_rows(truths, subsample=0.5) for _ in range(2))
    assert first == again
    assert first.test == sorted(first.test)
    assert first.train != sorted(first.train)


def test_files_that_are_too_small_to_divide_are_refused() -> None:
    for truths, subsample in ((["a"] * 50 + ["b"] * 4, 0.01), (["a", "b"] * 4, None)):
        with pytest.raises(DataError, match=r"found \d+ a, 4 b"):
            split_rows(truths, subsample=subsample)


def test_balancing_repeats_the_rarer_label_to_one_for_every_two_and_drops_nothing() -> None:
    truths = ["yes"] * 3 + ["no"] * 31
    rows = balanced(range(34), truths)
    assert Counter(truths[row] for row in rows) == {"no": 31, "yes": 15}
    assert rows[:34] == list(range(34))


@pytest.mark.parametrize("truths", [["yes"] * 20 + ["no"] * 21, ["no"] * 9])
def test_balancing_leaves_balanced_rows_and_a_single_label_alone(truths: list[str]) -> None:
    assert balanced(range(len(truths)), truths) == list(range(len(truths)))


@MARKS[0]
@MARKS[1]
def test_the_german_splits_are_the_published_files_row_by_row_in_their_order() -> None:
    task = load_task("german")
    raw, split = read_raw(task, DATA), split_rows(read_raw(task, DATA).truths, subsample=None)
    labels = {choice: value for value, choice in task.answers.items()}
    for rows, file in ((split.train, "CALM_german_train.csv"), (split.test, "CALM_german_test.csv")):
        ours = [",".join([*record.values, labels[record.truth]]) for record in raw.records(rows)]
        assert ours == (DATA / file).read_text("utf-8").split()


@MARKS[0]
@MARKS[1]
def test_the_shares_of_the_majority_are_the_published_ones() -> None:
    for name, expected in (("german", 0.660), ("australia", 0.568)):
        ready = prepared(load_task(name), DATA, numbers="written", example=True)
        counts = Counter(record.truth for record in ready.test)
        assert max(counts.values()) / len(ready.test) == pytest.approx(expected, abs=5e-4)
