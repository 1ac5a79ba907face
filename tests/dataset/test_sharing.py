"""Tokens counted separately and as a tree."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from zigong.dataset.sharing import PrefixSharing, prefix_sharing


def test_a_prompt_adds_only_the_tokens_after_its_common_prefix_with_the_previous_one(spark: SparkSession) -> None:
    rows = [
        ("a", 1, "s1", [1, 2, 9]),
        ("a", 2, "s2", [1, 2, 3, 9]),  # shares 2
        ("a", 3, "s3", [1, 2, 3, 9]),  # shares 4
        ("a", 4, "s4", [1, 2, 3, 9, 9]),  # shares 4
        ("a", 5, "s5", [7]),  # shares none
        ("b", 1, "s6", [1, 2, 3]),  # another user
    ]
    frame = spark.createDataFrame(rows, "user_id string, observation_at int, sample_id string, input_ids array<int>")
    found = prefix_sharing(frame.repartition(3))
    assert found == PrefixSharing(tokens=20, tree_tokens=10)
    assert found.shared == pytest.approx(0.5)


def test_the_shared_part_of_no_prompts_is_zero(spark: SparkSession) -> None:
    schema = "user_id string, observation_at int, sample_id string, input_ids array<int>"
    assert prefix_sharing(spark.createDataFrame([], schema)).shared == 0.0
