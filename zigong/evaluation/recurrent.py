"""A GRU on the tokens of the prompts: the plainest sequence model, which a language model has to beat.

The samples of a user share the states of their common history, as in :mod:`zigong.tokens.tree`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zigong.evaluation.metrics import log_loss
from zigong.tokens.samples import Samples, TokenIds
from zigong.tokens.tree import TokenTree, Tree, user_trees

Floats = NDArray[np.float64]

WIDTH, RATE, MAX_NORM, DROPOUT = 96, 3e-3, 1.0, 0.1
SAMPLES_OF_A_STEP, TREES_OF_A_PASS = 256, 128
PATIENCE = 2  # epochs without a smaller log-loss on the samples that stop the training


class Recurrent(nn.Module):
    """Embedding, one layer of GRU, and a logit of the last state."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, trees: Sequence[Tree]) -> Tensor:
        """Logits of the samples of some trees, in the order of the trees; shape [samples]."""
        paths = [path for _, tree in trees for path in _paths(tree)]
        owners = np.repeat(np.arange(len(trees)), [tree.samples for _, tree in trees])
        trunk = self._states(_padded([tree.tokens[: tree.trunk] for _, tree in trees]), None)
        first = torch.zeros(len(trees), 1, WIDTH)
        at_fork = torch.cat([first, trunk], dim=1)[owners, [path.fork for path in paths]]
        states = self._states(_padded([path.tail for path in paths]), at_fork[None].contiguous())
        ends = torch.cat([at_fork[:, None], states], dim=1)[np.arange(len(paths)), [len(p.tail) for p in paths]]
        logits: Tensor = self.head(self.dropout(ends))[:, 0]
        return logits

    def _states(self, tokens: Tensor, before: Tensor | None) -> Tensor:
        states: Tensor = self.gru(self.embedding(tokens), before)[0]
        return states


@dataclass(frozen=True, kw_only=True, eq=False)
class _Path:
    """A sample as the number of trunk tokens that it begins with, and the tokens after them."""

    fork: int
    tail: TokenIds


def fit_recurrent(train: Samples, stop: Samples, *, epochs: int, seed: int) -> Recurrent:
    """Fits the GRU on the labels of complete users.

    Args:
        train: samples to train on.
        stop: samples whose log-loss chooses the epoch.
        epochs: largest number of passes over ``train``.
        seed: of weights, order and dropout.
    """
    generator = np.random.default_rng(seed)
    words = 1 + max(int(ids.max()) for ids in train.input_ids)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Recurrent(words)
        optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
        trees, stopping = _trees(train), _trees(_known(stop, words))
        best, least, since = copy.deepcopy(model.state_dict()), np.inf, 0
        for _ in range(epochs):
            model.train()
            for batch in _batches(trees, generator):
                labels = torch.from_numpy(train.label[np.concatenate([members for members, _ in batch])]).float()
                loss = nn.functional.binary_cross_entropy_with_logits(model(batch), labels)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
                optimiser.step()
            found = log_loss(stop.label, _answers(model, stopping, len(stop)))
            since += 1
            if found < least:
                best, least, since = copy.deepcopy(model.state_dict()), found, 0
            if since >= PATIENCE:
                break
        model.load_state_dict(best)
    return model


def recurrent_answers(model: Recurrent, samples: Samples) -> Floats:
    """p_bad of each sample; a token that the model was not trained on counts as its last one. Shape [samples]."""
    return _answers(model, _trees(_known(samples, model.embedding.num_embeddings)), len(samples))


def _known(samples: Samples, words: int) -> Samples:
    return replace(samples, input_ids=tuple(np.minimum(ids, words - 1) for ids in samples.input_ids))


def _answers(model: Recurrent, trees: Sequence[Tree], count: int) -> Floats:
    model.eval()
    found = np.empty(count)
    with torch.inference_mode():
        for start in range(0, len(trees), TREES_OF_A_PASS):
            part = trees[start : start + TREES_OF_A_PASS]
            found[np.concatenate([members for members, _ in part])] = torch.sigmoid(model(part)).numpy()
    return found


def _trees(samples: Samples) -> list[Tree]:
    """Trees by length, so that a pass pads little."""
    return sorted(user_trees(samples, splits=["all"] * len(samples)), key=lambda tree: len(tree[1]))


def _batches(trees: Sequence[Tree], generator: np.random.Generator) -> Iterator[list[Tree]]:
    """Complete trees of similar length with about SAMPLES_OF_A_STEP samples, in random order."""
    sizes = np.cumsum([tree.samples for _, tree in trees])
    bounds = np.searchsorted(sizes, np.arange(SAMPLES_OF_A_STEP, sizes[-1] + SAMPLES_OF_A_STEP, SAMPLES_OF_A_STEP))
    starts = np.unique(np.concatenate([[0], np.minimum(bounds + 1, len(trees))]))
    parts = [list(trees[start:end]) for start, end in pairwise(starts)]
    for number in generator.permutation(len(parts)):
        yield parts[number]


def _paths(tree: TokenTree) -> list[_Path]:
    """The path of each sample up to the last token of its prompt."""
    _, firsts = np.unique(tree.label_samples, return_index=True)
    return [_path(tree, int(token)) for token in tree.label_tokens[firsts]]


def _path(tree: TokenTree, token: int) -> _Path:
    tail: list[int] = []
    while token >= tree.trunk:
        tail.append(int(tree.tokens[token]))
        token = int(tree.parents[token])
    return _Path(fork=token + 1, tail=np.array(tail[::-1], dtype=np.int32))


def _padded(rows: Sequence[TokenIds]) -> Tensor:
    """Token ids padded with 0 at the end; shape [rows, longest], at least one column."""
    padded = np.zeros((len(rows), max(1, *map(len, rows))), dtype=np.int64)
    for number, ids in enumerate(rows):
        padded[number, : len(ids)] = ids
    return torch.from_numpy(padded)
