"""Token trees as blocks: packed tokens for layers that work per token, trunks and branches for attention.

A trunk attends causally to itself. A branch attends to the trunk up to its fork and, within itself, to its own path.
B trees with trunks of up to L tokens and up to C branches of up to W tokens therefore need scores of [L, L] and
[C W, L + W] instead of the square of all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from zigong.tokens.batches import counted_samples
from zigong.tokens.tree import Mask, TokenTree, path_mask

CLOSED = float("-inf")


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeBlocks:
    """B trees of T tokens in all, packed without pads, and their slots in blocks of R = L + C W.

    Attributes:
        input_ids: [T].
        position_ids: [T].
        tokens_of_slots: [B, R] packed token of each slot; an empty slot refers to token 0 and is never attended to.
        slots_of_tokens: [T] slot of each token in the flattened blocks.
        trunk: L.
        branches: C.
        trunk_bias: [L, L] 0 or -inf; causal and within the window, so no token of a trunk attends to the pads after it.
        branch_bias: [B, C W, L + W] 0 or -inf: the trunk before the fork, then the branch's own path. A pad attends to
            the first column of its branch, so that no row is empty.
        label_tokens: [M] packed token whose hidden state predicts each label.
        label_slots: [B, Q] packed tokens of the labels of each tree, padded by repeating the first one.
        label_places: [M] place of each label in the flattened ``label_slots``.
        label_bias: [B, Q, R] 0 or -inf: the slots that the tokens of the labels attend to.
        label_targets: [M] token ids.
        label_samples: [M] sample of each label, numbered across the trees in their order.
        samples: N.
    """

    input_ids: Tensor
    position_ids: Tensor
    tokens_of_slots: Tensor
    slots_of_tokens: Tensor
    trunk: int
    branches: int
    trunk_bias: Tensor
    branch_bias: Tensor
    label_tokens: Tensor
    label_slots: Tensor
    label_places: Tensor
    label_bias: Tensor
    label_targets: Tensor
    label_samples: Tensor
    samples: int

    def to(self, device: torch.device) -> Self:
        """The blocks on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)  # type: ignore[arg-type]  # mypy does not know which fields these are


def tree_blocks(trees: Sequence[TokenTree], *, window: int | None = None) -> TreeBlocks:
    """Arranges trees in blocks; trees with trunks and branches of similar sizes need little padding.

    Args:
        trees: one or more.
        window: number of the nearest tokens of its path, itself included, that a token attends to; None: all.
    """
    trunk = max(tree.trunk for tree in trees)
    branches = max(len(tree.forks) for tree in trees)
    width = max((int(tree.branch_sizes.max()) for tree in trees if len(tree.forks)), default=0)
    slots = [_slots(tree, trunk, width) for tree in trees]
    rows = trunk + branches * width
    firsts = np.cumsum([0, *(len(tree) for tree in trees)])
    tokens_of_slots = np.zeros((len(trees), rows), dtype=np.int64)
    for row, (own, first) in enumerate(zip(slots, firsts, strict=False)):
        tokens_of_slots[row, own] = first + np.arange(len(own))
    masks = [path_mask(tree, window) for tree in trees]
    branch_open = [_branch_open(tree, mask, trunk, branches, width) for tree, mask in zip(trees, masks, strict=True)]
    label_slots, label_places, label_open = _labels(trees, masks, slots, rows)
    return TreeBlocks(
        input_ids=torch.from_numpy(np.concatenate([tree.tokens for tree in trees]).astype(np.int64)),
        position_ids=torch.from_numpy(np.concatenate([tree.positions for tree in trees])),
        tokens_of_slots=torch.from_numpy(tokens_of_slots),
        slots_of_tokens=torch.from_numpy(np.concatenate([own + row * rows for row, own in enumerate(slots)])),
        trunk=trunk,
        branches=branches,
        trunk_bias=_bias(_trunk_open(trunk, window)),
        branch_bias=_bias(np.stack(branch_open)),
        label_tokens=torch.from_numpy(
            np.concatenate([tree.label_tokens + first for tree, first in zip(trees, firsts, strict=False)])
        ),
        label_slots=torch.from_numpy(label_slots + firsts[:-1, None]),
        label_places=torch.from_numpy(label_places),
        label_bias=_bias(label_open),
        label_targets=torch.from_numpy(np.concatenate([tree.label_targets for tree in trees])),
        label_samples=torch.from_numpy(counted_samples(trees)),
        samples=sum(tree.samples for tree in trees),
    )


def _slots(tree: TokenTree, trunk: int, width: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Slot of each token of a tree: [T]."""
    sizes = tree.branch_sizes
    within = np.arange(len(tree) - tree.trunk) - np.repeat(tree.branch_starts - tree.trunk, sizes)
    return np.concatenate([np.arange(tree.trunk), trunk + np.repeat(np.arange(len(sizes)), sizes) * width + within])


def _trunk_open(trunk: int, window: int | None) -> Mask:
    """[L, L]."""
    causal = np.tri(trunk, dtype=bool)
    return causal if window is None else causal & ~np.tri(trunk, k=-window, dtype=bool)


def _branch_open(tree: TokenTree, mask: Mask, trunk: int, branches: int, width: int) -> Mask:
    """[C W, L + W]."""
    allowed = np.zeros((branches, width, trunk + width), dtype=bool)
    allowed[:, :, trunk : trunk + 1] = True
    for branch, (start, size) in enumerate(zip(tree.branch_starts, tree.branch_sizes, strict=True)):
        own = slice(start, start + size)
        allowed[branch, :size, : tree.trunk] = mask[own, : tree.trunk]
        allowed[branch, :size, trunk : trunk + size] = mask[own, own]
    return allowed.reshape(branches * width, trunk + width)


def _labels(
    trees: Sequence[TokenTree], masks: Sequence[Mask], slots: Sequence[np.ndarray], rows: int
) -> tuple[np.ndarray, np.ndarray, Mask]:
    """Tokens of the labels [B, Q] within their trees, place of each label [M], and the slots attended to [B, Q, R]."""
    most = max(len(tree.label_tokens) for tree in trees)
    tokens = np.stack(
        [
            np.append(tree.label_tokens, np.repeat(tree.label_tokens[:1], most - len(tree.label_tokens)))
            for tree in trees
        ]
    )
    allowed = np.zeros((len(trees), most, rows), dtype=bool)
    for row, (mask, own) in enumerate(zip(masks, slots, strict=True)):
        allowed[row][:, own] = mask[tokens[row]]
    places = [row * most + np.arange(len(tree.label_tokens)) for row, tree in enumerate(trees)]
    return tokens, np.concatenate(places), allowed


def _bias(allowed: Mask) -> Tensor:
    return torch.zeros(allowed.shape).masked_fill_(torch.from_numpy(~allowed), CLOSED)
