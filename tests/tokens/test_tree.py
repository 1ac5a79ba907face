from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny_trees import monthly_user, ragged_user, samples_of
from zigong.errors import DataError
from zigong.tokens.samples import Samples
from zigong.tokens.tree import TokenTree, path_mask, token_tree, user_trees

# A small vocabulary and short samples, so that prefixes are shared by chance in every possible way.
WORDS = st.integers(0, 2)
SAMPLE = st.tuples(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS, min_size=1, max_size=3))


def _tree(samples: Samples) -> TokenTree:
    return token_tree(samples, splits=["train"] * len(samples))


def _path(tree: TokenTree, token: int) -> list[int]:
    path = []
    while token >= 0:
        path.append(token)
        token = int(tree.parents[token])
    return path[::-1]


def _random_user(samples: list[tuple[list[int], list[int]]]) -> Samples:
    return samples_of("u", [prompt for prompt, _ in samples], [answer for _, answer in samples])


@given(st.lists(SAMPLE, min_size=1, max_size=7))
@settings(max_examples=150, deadline=None)
def test_every_path_is_its_sample_and_every_prefix_occurs_once(raw: list[tuple[list[int], list[int]]]) -> None:
    samples = _random_user(raw)
    tree = _tree(samples)
    prefixes = set()
    for sample, (prompt, answer) in enumerate(raw):
        labels = np.flatnonzero(tree.label_samples == sample)
        read = [*prompt, *answer][:-1]
        path = _path(tree, int(tree.label_tokens[labels[-1]]))
        assert tree.tokens[path].tolist() == read
        assert tree.positions[path].tolist() == list(range(len(read)))
        assert tree.label_targets[labels].tolist() == answer
        assert tree.label_tokens[labels].tolist() == path[len(prompt) - 1 :]
        prefixes |= {tuple(read[:end]) for end in range(1, len(read) + 1)}
    assert len(tree) == len(prefixes)
    assert tree.sample_tokens == sum(len(prompt) + len(answer) - 1 for prompt, answer in raw)


@given(st.lists(SAMPLE, min_size=1, max_size=7))
@settings(max_examples=100, deadline=None)
def test_a_token_attends_to_its_own_path_and_branches_follow_the_trunk(raw: list[tuple[list[int], list[int]]]) -> None:
    tree = _tree(_random_user(raw))
    mask = path_mask(tree)
    owner = np.searchsorted(tree.branch_starts, np.arange(len(tree)), side="right") - 1
    for token in range(len(tree)):
        path = _path(tree, token)
        assert np.flatnonzero(mask[token]).tolist() == sorted(path)
        on_trunk = [one for one in path if one < tree.trunk]
        assert on_trunk == list(range(len(on_trunk)))
        if token >= tree.trunk:
            assert len(on_trunk) == tree.forks[owner[token]]
            assert {owner[one] for one in path if one >= tree.trunk} == {owner[token]}


def test_twelve_monthly_points_cost_one_history_and_twelve_questions() -> None:
    samples = monthly_user("u", seed=1, months=24, points=12, line=12, question=15)
    single = samples_of("u", samples.input_ids, [ids[:1] for ids in samples.completion_ids])
    tree = _tree(single)
    assert (len(tree), tree.sample_tokens) == (24 * 12 + 12 * 15, 12 * 222 + 12 * 15)
    assert len(tree.forks) == 11  # the trunk ends in the last question


@pytest.mark.parametrize("name", ["user", "split"])
def test_a_tree_never_mixes_users_or_splits(name: str) -> None:
    samples = ragged_user("u", seed=1)
    users = ("u", "v") * 4 if name == "user" else samples.user_id
    splits = ["train", "oot"] * 4 if name == "split" else ["train"] * 8
    mixed = Samples(**{**vars(samples), "user_id": users})
    with pytest.raises(DataError, match=f"samples of one {name}"):
        token_tree(mixed, splits=splits)


def test_trees_of_many_users_contain_every_sample_once_and_one_user_and_split_each() -> None:
    parts = [monthly_user("u", seed=1, months=6, points=4), ragged_user("v", seed=2)]
    joined = samples_of(
        "u", [p for part in parts for p in part.input_ids], [c for part in parts for c in part.completion_ids]
    )
    samples = Samples(**{**vars(joined), "user_id": tuple("uuuuvvvvvvvv")})
    splits = ["train", "train", "oot", "oot", *["train"] * 8]
    trees = user_trees(samples, splits=splits)
    assert sorted(index for members, _ in trees for index in members) == list(range(12))
    for members, tree in trees:
        assert len({(samples.user_id[index], splits[index]) for index in members}) == 1
        assert tree.samples == len(members)


def test_samples_before_and_after_folding_form_two_trees() -> None:
    before = monthly_user("u", seed=1, months=6, points=3)
    after = monthly_user("u", seed=2, months=6, points=3)
    start = [9, 9]  # the first tokens of every sample
    prompts = [[*start, *ids] for ids in (*before.input_ids, *after.input_ids)]
    samples = samples_of("u", prompts, [*before.completion_ids, *after.completion_ids])
    trees = user_trees(samples, splits=["train"] * 6)
    assert sorted(tuple(members) for members, _ in trees) == [(0, 1, 2), (3, 4, 5)]
