"""An attribute that alone separates the classes is found, whatever its form; ordinary signals are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pyspark.sql import SparkSession

from zigong.dataset.audit import separation_measures
from zigong.dataset.separation import Separation, attribute_separations

SIZE = 1200
GENERATOR = np.random.default_rng(3)
LABELS = (GENERATOR.random(SIZE) < 0.12).astype(int)
RISK = GENERATOR.normal(size=SIZE) + 1.2 * LABELS  # an ordinary signal, AUC about .8
Words = Callable[[int], str]  # of a sample


def separations(spark: SparkSession, words: Words) -> dict[str, Separation]:
    """Prompts with ordinary attributes and the given words."""
    ordinary = [f"+3d login channel=app usage={'high' if risk > 1 else 'low'}" for risk in RISK]
    rows = [
        (
            f"{ordinary[index]}\nprofile region=r{index % 7} income={20000 + 37 * index} {words(index)}\nQuestion?",
            int(label),
        )
        for index, label in enumerate(LABELS)
    ]
    frame = spark.createDataFrame(rows, "prompt string, label int")
    return {one.attribute: one for one in attribute_separations(frame)}


LEAKS: dict[str, Words] = {
    "a word for each class": lambda i: f"fee={'charged' if LABELS[i] else 'none'}",
    "a word that is absent for the good": lambda i: "fee=charged" if LABELS[i] else "",
    "a word that some good have, too": lambda i: f"fee={'charged' if LABELS[i] or i % 3 == 0 else 'none'}",
    "an amount": lambda i: f"fee={100 + 1.37 * i:.2f}" if LABELS[i] else "fee=0",
    "two ranges of amounts": lambda i: f"fee={(5000 if LABELS[i] else 300) + 0.01 * i:.2f}",
    "a reference of its own": lambda i: f"fee=case{i}" if LABELS[i] else "fee=none",
    "some of the bad, and no good": lambda i: f"fee={'open' if LABELS[i] or RISK[i] > 9 else 'none'}",
}


@pytest.mark.parametrize("form", LEAKS)
def test_an_attribute_that_knows_the_outcome_is_alarming_and_the_others_are_not(spark: SparkSession, form: str) -> None:
    found = separations(spark, LEAKS[form])
    assert [name for name, one in found.items() if one.is_alarming] == ["fee"]
    measures = separation_measures(tuple(found.values()))
    assert "fee" in measures["no_value_decides_the_class"].note + measures["no_attribute_has_a_large_auc"].note


def test_the_auc_of_an_attribute_is_that_of_its_values_ranked_by_their_bad_rate(spark: SparkSession) -> None:
    usage = separations(spark, lambda _: "")["usage"]
    high = RISK > 1
    sensitivity, false_alarms = high[LABELS == 1].mean(), high[LABELS == 0].mean()
    assert usage.auc == pytest.approx(0.5 * (1 + sensitivity - false_alarms))
    assert 0.6 < usage.auc < 0.9


def test_no_prompts_and_one_class_separate_nothing(spark: SparkSession) -> None:
    empty = spark.createDataFrame([], "prompt string, label int")
    assert attribute_separations(empty) == ()
    good = spark.createDataFrame([("a=b", 0)] * 200, "prompt string, label int")
    assert [one.is_alarming for one in attribute_separations(good)] == [False]
    assert separation_measures(())["no_attribute_has_a_large_auc"].observed == 0.5
