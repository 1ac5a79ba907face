from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.support.tiny_trees import make_decoder, make_vector, monthly_user, one_by_one, products, ragged_user
from zigong.influence.branches import branch_products, tree_batches
from zigong.influence.decoder import open_forward_mode
from zigong.tokens.samples import Samples
from zigong.tokens.tree import user_trees

PARTS = (
    monthly_user("a", seed=1, months=6, points=4),
    ragged_user("b", seed=2),
    monthly_user("c", seed=3, months=9, points=3, line=3),
    monthly_user("d", seed=4, months=2, points=1),
)


def _joined() -> Samples:
    """All users' samples, shuffled."""
    columns: dict[str, list[Any]] = {
        name: [value for part in PARTS for value in getattr(part, name)] for name in PARTS[0].__dataclass_fields__
    }
    fields: dict[str, Any] = {name: tuple(column) for name, column in columns.items()}
    joined = Samples(**{**fields, "label": np.array(columns["label"])})
    return joined.take(np.random.default_rng(1).permutation(len(joined)))


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_each_sample_is_scored_with_the_vector_of_its_bucket_whatever_the_batches(batch_tokens: int) -> None:
    model, pairs = make_decoder()
    samples = _joined()
    vectors = [make_vector(pairs, seed) for seed in range(3)]
    buckets = np.arange(len(samples)) % 3  # the samples of one user are in several
    buckets[np.array(samples.user_id) == "c"] = 1
    own_losses, gradients = one_by_one(model, pairs, samples)
    along_each = torch.stack([products(gradients, vector) for vector in vectors]).numpy()
    expected = along_each[buckets, np.arange(len(samples))]
    trees = user_trees(samples, splits=["train"] * len(samples))
    decoder = open_forward_mode(model, pairs)
    found, losses = branch_products(decoder, trees, vectors, buckets, batch_tokens=batch_tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(losses, own_losses.numpy(), rtol=1e-5)


def test_batches_of_trees_respect_the_budget_and_contain_every_tree_once() -> None:
    samples = _joined()
    trees = user_trees(samples, splits=["train"] * len(samples))
    batches = tree_batches(trees, 70)
    assert sorted(index for batch in batches for members, _ in batch for index in members) == list(range(len(samples)))
    assert all(len(batch) == 1 or sum(len(tree) for _, tree in batch) <= 70 for batch in batches)
    assert len(batches) < len(trees)
