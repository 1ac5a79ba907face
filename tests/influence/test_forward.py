from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from tests.support.tiny_trees import (
    QKV,
    Pairs,
    make_decoder,
    make_vector,
    monthly_user,
    one_by_one,
    products,
    ragged_user,
)
from zigong.errors import ConfigError
from zigong.influence.decoder import layer_weights, open_forward_mode
from zigong.influence.forward import branch_derivatives
from zigong.tokens.batches import branch_losses, tree_batch
from zigong.tokens.blocks import tree_blocks
from zigong.tokens.samples import Samples
from zigong.tokens.tree import TokenTree, token_tree

USERS = (
    monthly_user("a", seed=1, months=6, points=4),
    ragged_user("b", seed=2),
    monthly_user("c", seed=3, months=9, points=3, line=3),
    monthly_user("d", seed=4, months=2, points=1),
)
EVERY = (*QKV, "o_proj", "gate_proj", "up_proj", "down_proj")


def _tree(samples: Samples) -> TokenTree:
    return token_tree(samples, splits=["train"] * len(samples))


def _forward(
    model: PreTrainedModel, pairs: Pairs, seeds: list[int], users: tuple[Samples, ...]
) -> tuple[Tensor, Tensor]:
    opened = open_forward_mode(model, pairs)
    weights = layer_weights(opened, [make_vector(pairs, seed) for seed in seeds])
    blocks = tree_blocks([_tree(user) for user in users], window=opened.window)
    return branch_derivatives(opened, weights, blocks, vectors=len(seeds))


@pytest.mark.parametrize(
    ("kind", "targets", "changes"),
    [
        ("mistral", QKV, {}),
        ("mistral", EVERY, {"num_key_value_heads": 4}),
        ("llama", ("q_proj", "down_proj"), {"head_dim": 12, "tie_word_embeddings": True}),
        (
            "llama",
            ("v_proj", "gate_proj"),
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        ),
        ("qwen2", EVERY, {}),
        ("qwen3", EVERY, {"head_dim": 12}),
        ("llama", EVERY, {"attention_bias": True}),
        ("mistral", QKV, {"sliding_window": 1}),
        ("mistral", EVERY, {"sliding_window": 5}),
    ],
)
def test_branch_derivatives_are_the_products_of_batch_of_one_gradients(
    kind: str, targets: tuple[str, ...], changes: dict[str, Any]
) -> None:
    model, pairs = make_decoder(kind, targets=targets, **changes)
    separate = [one_by_one(model, pairs, samples) for samples in USERS]
    losses, found = _forward(model, pairs, [1, 2], USERS)
    torch.testing.assert_close(losses, torch.cat([loss for loss, _ in separate]).double(), rtol=1e-6, atol=1e-6)
    for row, seed in zip(found, (1, 2), strict=True):
        expected = torch.cat([products(gradients, make_vector(pairs, seed)) for _, gradients in separate])
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=5e-6)


def test_in_single_precision_branch_derivatives_are_accurate_to_1e_5() -> None:
    exact, exact_pairs = make_decoder()
    model, pairs = make_decoder(dtype=torch.float32)
    vector = make_vector(pairs, 1)
    wide = tuple((a.double(), b.double()) for a, b in vector)
    expected = torch.cat([products(one_by_one(exact, exact_pairs, samples)[1], wide) for samples in USERS])
    found = _forward(model, pairs, [1], USERS)[1][0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_the_explicit_pass_equals_the_jvp_of_the_model() -> None:
    model, pairs = make_decoder(targets=EVERY)
    batch, vector = tree_batch([_tree(user) for user in USERS]), make_vector(pairs, 1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = {names[id(part.weight)]: part.weight.detach() for pair in pairs for part in pair}
    moves = dict(zip(weights, [part for pair in vector for part in pair], strict=True))

    class Losses(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            return branch_losses(self.model, batch)

    def losses(values: dict[str, Tensor]) -> Tensor:
        named = {f"model.{name}": value for name, value in values.items()}
        found: Tensor = torch.func.functional_call(Losses(), named, ())
        return found

    with sdpa_kernel(SDPBackend.MATH):
        expected, moved, *_ = torch.func.jvp(losses, (weights,), (moves,))
    found, derivative = _forward(model, pairs, [1], USERS)
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(derivative[0], moved.double(), rtol=1e-5, atol=1e-6)


def test_derivatives_do_not_depend_on_which_trees_share_a_batch() -> None:
    model, pairs = make_decoder()
    together = _forward(model, pairs, [1], USERS)[1]
    separate = torch.cat([_forward(model, pairs, [1], (user,))[1] for user in USERS], dim=1)
    torch.testing.assert_close(together, separate, rtol=1e-10, atol=1e-11)


def test_a_branch_does_not_depend_on_the_others() -> None:
    model, pairs = make_decoder()
    samples = USERS[0]
    together = _forward(model, pairs, [1], (samples,))[1][0]
    alone = torch.cat([_forward(model, pairs, [1], (samples.take(np.array([i])),))[1][0] for i in range(len(samples))])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-11)


def test_the_weights_are_those_of_the_loaded_checkpoint() -> None:
    model, pairs = make_decoder()
    opened, vector, blocks = open_forward_mode(model, pairs), make_vector(pairs, 1), tree_blocks([_tree(USERS[1])])
    with torch.no_grad():
        for a, b in pairs:
            a.weight.mul_(1.5)
            b.weight.add_(0.1)
    found = branch_derivatives(opened, layer_weights(opened, [vector]), blocks, vectors=1)[1][0]
    expected = products(one_by_one(model, pairs, USERS[1])[1], vector)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
            "sliding windows in some of its layers",
        ),
        ("mistral", {"hidden_act": "gelu"}, "activation gelu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "type dynamic"),
        ("mistral", {"dora": True}, "not a plain LoRA pair"),
        ("mistral", {"targets": ("q_proj", "lm_head")}, "1 LoRA pairs outside"),
        ("mistral", {"dtype": torch.bfloat16}, "bfloat16"),
    ],
)
def test_an_unsupported_model_is_rejected_by_name(kind: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        open_forward_mode(*make_decoder(kind, **changes))
