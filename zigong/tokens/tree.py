"""The token tree of one user: a trie over the token ids of its samples, in which every shared token occurs once.

Only equal token ids are shared. A late event, a correction or folding changes the ids from some position on, and after
it the samples have separate tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from zigong.errors import DataError
from zigong.tokens.samples import Indices, Samples, TokenIds

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenTree:
    """The samples of one user as a tree of T tokens: a trunk and C branches.

    A path holds the prompt and the answer of a sample without the answer's last token, which is predicted but never
    read. The trunk is the path with which the others share most. A branch is the subtree of one child of a trunk token
    (or of the root) that is not on the trunk; it may fork again.

    Attributes:
        tokens: [T] token ids: first the trunk, then one branch after the other, every token after its parent.
        parents: [T] index of the previous token on the path, -1 at a root.
        positions: [T] number of tokens before it on its path.
        trunk: number of tokens of the trunk.
        branch_starts: [C] index of the first token of each branch, ascending.
        forks: [C] number of trunk tokens before each branch.
        label_tokens: [M] index of the token whose hidden state predicts each label.
        label_targets: [M] token ids of the labels.
        label_samples: [M] sample of each label, ascending.
        samples: number of samples N, in the order they were given.
        sample_tokens: number of tokens of the N paths, counted separately.
    """

    tokens: TokenIds
    parents: Indices
    positions: Indices
    trunk: int
    branch_starts: Indices
    forks: Indices
    label_tokens: Indices
    label_targets: Indices
    label_samples: Indices
    samples: int
    sample_tokens: int

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def branch_sizes(self) -> Indices:
        """Number of tokens of each branch: [C]."""
        return np.diff(np.append(self.branch_starts, len(self)))


def token_tree(samples: Samples, *, splits: Sequence[str]) -> TokenTree:
    """Builds the tree of one user's samples.

    Args:
        samples: at least one sample; their completions are in the loss (see :func:`zigong.tokens.samples.trainable`).
        splits: split of each sample.

    Raises:
        DataError: the samples belong to several users or several splits.
    """
    for name, found in (("user", samples.user_id), ("split", tuple(splits))):
        if len(found) != len(samples) or len(set(found)) != 1:
            raise DataError(
                f"a token tree holds the samples of one {name}, found {sorted(set(found))[:4]} for {len(samples)}",
                action="build one tree per user and split, as user_trees does",
            )
    return prompt_tree(samples.input_ids, samples.completion_ids)


def prompt_tree(prompts: Sequence[TokenIds], answers: Sequence[TokenIds]) -> TokenTree:
    """Builds the tree of prompts and their answers; the caller ensures that they may share a tree.

    Args:
        prompts: [N] token ids, at least one each.
        answers: [N] token ids that bear loss, at least one each.
    """
    sequences = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
    chains = _chains([ids[:-1] for ids in sequences])
    order = _block_order(chains)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    sizes = np.array([len(ids) for ids in answers])
    labels = [path[-size:] for path, size in zip(chains.paths, sizes, strict=True)]
    parents = np.where(chains.parents[order] < 0, -1, place[chains.parents[order]])
    trunk = len(chains.paths[_trunk_sample(chains)])
    heads = np.flatnonzero((np.arange(len(order)) >= trunk) & (parents < trunk))
    return TokenTree(
        tokens=chains.tokens[order],
        parents=parents,
        positions=chains.positions[order],
        trunk=trunk,
        branch_starts=heads,
        forks=parents[heads] + 1,
        label_tokens=place[np.concatenate(labels)],
        label_targets=np.concatenate(answers).astype(np.int64),
        label_samples=np.repeat(np.arange(len(sequences)), sizes),
        samples=len(sequences),
        sample_tokens=sum(len(path) for path in chains.paths),
    )


def tree_size(prompts: Sequence[TokenIds], answers: Sequence[TokenIds]) -> int:
    """Number of tokens of :func:`prompt_tree`, without building it."""
    paths = sorted((np.concatenate(pair)[:-1] for pair in zip(prompts, answers, strict=True)), key=_in_token_order)
    return sum(map(len, paths)) - sum(common_prefix(first, second) for first, second in pairwise(paths))


Tree = tuple[Indices, TokenTree]  # indices of the samples in the tree's order, and the tree


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chains:
    """The trie in the order it was built: sample by sample, sorted by token ids.

    Attributes:
        tokens, parents, positions: as in :class:`TokenTree`.
        paths: indices of each sample's tokens, in the order the samples were given.
    """

    tokens: TokenIds
    parents: Indices
    positions: Indices
    paths: list[Indices]


def _chains(sequences: Sequence[TokenIds]) -> _Chains:
    """Builds the trie: in sorted order a sample shares its longest prefix with its predecessor, and adds the rest."""
    ranked = sorted(range(len(sequences)), key=lambda i: _in_token_order(sequences[i]))
    paths: list[Indices] = [np.zeros(0, dtype=np.int64)] * len(sequences)
    tokens, parents, positions = [], [], []
    size, before = 0, ranked[0]
    for sample in ranked:
        ids = sequences[sample]
        kept = common_prefix(sequences[before], ids) if size else 0
        added = np.arange(size, size + len(ids) - kept)
        paths[sample] = np.concatenate([paths[before][:kept], added])
        tokens.append(ids[kept:])
        parents.append(np.concatenate([[-1], paths[sample]])[kept:-1])
        positions.append(np.arange(kept, len(ids)))
        size, before = size + len(added), sample
    return _Chains(
        tokens=np.concatenate(tokens),
        parents=np.concatenate(parents).astype(np.int64),
        positions=np.concatenate(positions).astype(np.int64),
        paths=paths,
    )


def _in_token_order(ids: TokenIds) -> bytes:
    return ids.astype(">i4").tobytes()


def common_prefix(first: TokenIds, second: TokenIds) -> int:
    """Length of the common prefix of two token sequences."""
    size = min(len(first), len(second))
    different = np.flatnonzero(first[:size] != second[:size])
    return int(different[0]) if len(different) else size


def _trunk_sample(chains: _Chains) -> int:
    """The sample whose path shares most with the others; ties: the longest, then the first."""
    followed = np.zeros(len(chains.tokens), dtype=np.int64)
    for path in chains.paths:
        followed[path] += 1
    return max(range(len(chains.paths)), key=lambda i: (int(followed[chains.paths[i]].sum()), len(chains.paths[i]), -i))


def _block_order(chains: _Chains) -> Indices:
    """The tokens of the trunk, then the branches in the order of their forks, each in the order of the trie."""
    on_trunk = np.zeros(len(chains.tokens), dtype=bool)
    on_trunk[chains.paths[_trunk_sample(chains)]] = True
    head = np.arange(len(chains.tokens))
    fork = np.zeros(len(chains.tokens), dtype=np.int64)
    for token in np.flatnonzero(~on_trunk):
        parent = chains.parents[token]
        if parent >= 0 and not on_trunk[parent]:
            head[token], fork[token] = head[parent], fork[parent]
        else:
            fork[token] = chains.positions[token]
    head[on_trunk] = -1
    return np.lexsort((np.arange(len(head)), head, fork, ~on_trunk))


def path_mask(tree: TokenTree, window: int | None = None) -> Mask:
    """[T, T]: whether the token of a row attends to that of a column: to itself and to its ancestors.

    Args:
        tree: T tokens.
        window: number of the nearest ones, itself included, that it attends to; None: all.
    """
    mask = np.zeros((len(tree), len(tree)), dtype=bool)
    for token, parent in enumerate(tree.parents):
        if parent >= 0:
            mask[token] = mask[parent]
        mask[token, token] = True
    return mask if window is None else mask & (tree.positions[:, None] - tree.positions < window)


def user_trees(samples: Samples, *, splits: Sequence[str]) -> list[Tree]:
    """Trees of many users: one per user and split, or several if the samples of a user share little.

    Args:
        samples: of any users, in any order.
        splits: split of each sample.

    Returns:
        Indices of the samples of each tree, in the tree's order, and the tree.
    """
    return [
        (family, token_tree(samples.take(family), splits=[splits[index] for index in family]))
        for family in families(list(zip(samples.user_id, splits, strict=True)), samples.input_ids)
    ]


def families(owners: Sequence[Hashable], prompts: Sequence[TokenIds]) -> Iterator[Indices]:
    """Divides prompts by owner, and those of one owner where consecutive prompts in id order share little.

    After folding, a history shares only its first tokens with earlier prompts. In one tree it would be a branch as long
    as the trunk, and all branches would be padded to it, so prompts that share less than half of the shorter one are
    divided.

    Args:
        owners: [N] owner of each prompt; only prompts of one owner share a tree.
        prompts: [N] token ids.

    Yields:
        Indices of the prompts of each tree, ascending.
    """
    known: dict[Hashable, int] = {}
    numbers = np.fromiter((known.setdefault(owner, len(known)) for owner in owners), np.int64, count=len(owners))
    by_owner = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[by_owner], prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(by_owner)]):
        yield from _divided(prompts, by_owner[start:end].tolist())


def _divided(prompts: Sequence[TokenIds], members: Sequence[int]) -> list[Indices]:
    ranked = sorted(members, key=lambda i: (_in_token_order(prompts[i]), i))
    cuts = [
        place
        for place, (a, b) in enumerate(pairwise(ranked), start=1)
        if 2 * common_prefix(prompts[a], prompts[b]) < min(len(prompts[a]), len(prompts[b]))
    ]
    return [np.sort(np.asarray(part, dtype=np.int64)) for part in np.split(np.asarray(ranked), cuts)]
