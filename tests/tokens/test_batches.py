from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.tiny_trees import make_decoder, monthly_user, one_by_one, ragged_user
from zigong.tokens.batches import branch_losses, tree_batch
from zigong.tokens.samples import Samples
from zigong.tokens.tree import TokenTree, token_tree

USERS = (
    monthly_user("a", seed=1, months=6, points=4),
    ragged_user("b", seed=2),
    monthly_user("c", seed=3, months=2, points=1),
)


def _trees(users: tuple[Samples, ...]) -> list[TokenTree]:
    return [token_tree(samples, splits=["train"] * len(samples)) for samples in users]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mistral", {}),
        ("llama", {}),
        ("qwen2", {}),
        ("mistral", {"sliding_window": 5}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
    ],
)
def test_branch_losses_equal_the_losses_of_separate_samples(kind: str, changes: dict[str, Any]) -> None:
    model, pairs = make_decoder(kind, dtype=torch.float32, **changes)
    expected = torch.cat([one_by_one(model, pairs, samples)[0] for samples in USERS])
    found = branch_losses(model, tree_batch(_trees(USERS)))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_reverse_mode_over_trees_gives_the_sum_of_sample_gradients() -> None:
    model, pairs = make_decoder(targets=("q_proj", "k_proj", "v_proj", "down_proj"))
    weights = [part.weight for pair in pairs for part in pair]
    separate = [gradient for samples in USERS for gradient in one_by_one(model, pairs, samples)[1]]
    for weight in weights:
        weight.requires_grad_(True)
    found = torch.autograd.grad(branch_losses(model, tree_batch(_trees(USERS))).sum(), weights)
    for one, *parts in zip(found, *separate, strict=True):
        torch.testing.assert_close(one, torch.stack(parts).sum(0), rtol=1e-5, atol=1e-7)
