"""Tokens apart and as a tree."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from zigong.dataset.sharing import PrefixSharing, prefix_sharing


def test_a_prompt_counts_from_where_it_leaves_the_one_before(spark: SparkSession) -> None:
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


def test_no_prompt_shares_nothing(spark: SparkSession) -> None:
    schema = "user_id string, observation_at int, sample_id string, input_ids array<int>"
    assert prefix_sharing(spark.createDataFrame([], schema)).shared == 0.0
