"""The rules that choose training samples, and what they know of a pool.

Every rule but ``high``, ``low`` and ``loss`` takes from each label its share of the pool, so that the model sees the
pool's bad rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zigong.tokens.samples import Indices

Floats = NDArray[np.float64]
Pick = Callable[[Indices, int], Indices]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rules know of the N samples of a pool and M targets.

    Attributes:
        label: label as given; shape [N].
        score: TracSeq score, NaN without an eligible target; shape [N].
        loss: loss at the agent's last checkpoint, NaN without a score; shape [N].
        products: influence on each single target; shape [N, M].
        self_influence: influence of each sample on itself; shape [N].
        likeness: cosine of the pooled states of sample and target; shape [N, M].
    """

    label: NDArray[np.int64]
    score: Floats
    loss: Floats
    products: NDArray[np.float32]
    self_influence: Floats
    likeness: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The chosen samples, ascending, and the weights of their losses; None: all weigh 1."""

    indices: Indices
    weights: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a rule is asked for.

    Attributes:
        known: what it may use.
        share: size of the choice as a share of the pool.
        influence_share: share of the choice that ``mix`` takes by score.
        generator: random numbers of the rules that draw.
    """

    known: Evidence
    share: float
    influence_share: float
    generator: np.random.Generator


Rule = Callable[[Request], Selection]


def _random(asked: Request) -> Selection:
    """At random."""
    return _by_label(asked, lambda part, size: asked.generator.permutation(part)[:size])


def _mix(asked: Request) -> Selection:
    """The highest scores of each label for a share of the choice, the rest at random: ``mix.rank: class``."""

    def pick(part: Indices, size: int) -> Indices:
        ranked = _descending(asked.known.score, part)
        top = round(asked.influence_share * size)
        return np.concatenate([ranked[:top], asked.generator.permutation(ranked[top:])[: size - top]])

    return _by_label(asked, pick)


def _high(asked: Request) -> Selection:
    """Highest scores, whatever the label."""
    return _whole(asked.share, asked.known.score)


def _low(asked: Request) -> Selection:
    """Lowest scores, whatever the label."""
    return _whole(asked.share, -asked.known.score)


def _loss(asked: Request) -> Selection:
    """Highest losses, whatever the label."""
    return _whole(asked.share, asked.known.loss)


def _high_in_class(asked: Request) -> Selection:
    """Highest scores of each label."""
    return _by_label(asked, lambda part, size: _descending(asked.known.score, part)[:size])


def _low_loss_in_class(asked: Request) -> Selection:
    """Lowest losses of each label: cleaning (2402.11242)."""
    return _by_label(asked, lambda part, size: _descending(-asked.known.loss, part)[:size])


def _self_influence(asked: Request) -> Selection:
    """Lowest self-influence of each label: a wrong label moves the model most towards itself (Pruthi 2020)."""
    return _by_label(asked, lambda part, size: _descending(-asked.known.self_influence, part)[:size])


def _rds_plus(asked: Request) -> Selection:
    """Targets take the samples whose pooled states are most alike, in turn (RDS+, 2503.01807)."""
    return _in_turn(asked, asked.known.likeness)


def _round_robin(asked: Request) -> Selection:
    """Single targets take the samples with the largest influence on them, in turn (2602.14696)."""
    return _in_turn(asked, asked.known.products)


def _weights(asked: Request) -> Selection:
    """At random; a sample's loss weighs twice the quantile of its score within the label, 1 without a score."""
    chosen = _random(asked).indices
    weights = np.ones(len(chosen))
    scored = ~np.isnan(asked.known.score[chosen])
    for label in np.unique(asked.known.label):
        own = scored & (asked.known.label[chosen] == label)
        order = np.argsort(np.argsort(asked.known.score[chosen[own]], kind="stable"), kind="stable")
        weights[own] = (2 * order + 1) / max(1, own.sum())  # their mean is 1, so the classes keep their weight
    return Selection(indices=chosen, weights=weights)


RULES: dict[str, Rule] = {
    "random": _random,
    "mix": _mix,
    "high": _high,
    "low": _low,
    "loss": _loss,
    "high_in_class": _high_in_class,
    "low_loss_in_class": _low_loss_in_class,
    "self_influence": _self_influence,
    "rds_plus": _rds_plus,
    "round_robin": _round_robin,
    "weights": _weights,
}


def round_robin(values: NDArray[np.floating], size: int) -> Indices:
    """``size`` different rows: the columns take, in turn, the largest of their values that is not taken yet.

    Args:
        values: shape [rows, columns].
        size: number of rows to take, at most all.
    """
    ranked = np.argsort(-values, axis=0, kind="stable")
    reached, taken, order = np.zeros(values.shape[1], dtype=np.int64), np.zeros(len(values), dtype=bool), list[int]()
    column = 0
    while len(order) < size:
        while taken[ranked[reached[column], column]]:
            reached[column] += 1
        row = int(ranked[reached[column], column])
        taken[row] = True
        order.append(row)
        column = (column + 1) % values.shape[1]
    return np.array(order, dtype=np.int64)


def _in_turn(asked: Request, values: NDArray[np.float32]) -> Selection:
    """The targets choose in a random order: with more targets than samples to take, others choose each time."""
    shuffled = values[:, asked.generator.permutation(values.shape[1])]
    return _by_label(asked, lambda part, size: part[round_robin(shuffled[part], size)])


def _by_label(asked: Request, pick: Pick) -> Selection:
    label = asked.known.label
    parts = [np.flatnonzero(label == value) for value in np.unique(label)]
    chosen = [pick(part, max(1, round(asked.share * len(part)))) for part in parts]
    return Selection(indices=np.sort(np.concatenate(chosen)))


def _whole(share: float, values: Floats) -> Selection:
    every = np.arange(len(values))
    return Selection(indices=np.sort(_descending(values, every)[: max(1, round(share * len(every)))]))


def _descending(values: Floats, part: Indices) -> Indices:
    """The part, largest value first, those without a value last."""
    ranked: Indices = part[np.argsort(-_known(values)[part], kind="stable")]
    return ranked


def _known(values: Floats) -> Floats:
    return np.where(np.isnan(values), -np.inf, values)
