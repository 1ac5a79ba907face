"""Plans the steps of a training: periods, random batches, and the losses of single samples or of user trees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from zigong.errors import ConfigError, DataError
from zigong.recipe import Training
from zigong.tokens.answer_head import AnswerHead
from zigong.tokens.batches import branch_losses, summed_tree_losses, tree_batch
from zigong.tokens.columns import taken
from zigong.tokens.losses import sample_losses, summed_losses
from zigong.tokens.samples import Indices, Samples, TokenIds, batch_of, sample_lengths
from zigong.tokens.soft_answers import SoftAnswers
from zigong.tokens.tree import TokenTree, families, prompt_tree, tree_size
from zigong.training.optimise import OptimiserStep, counted_batches, learning_rate, shuffled_batches
from zigong.training.team import ALONE, Team

WINDOW_STEPS = 16  # number of steps whose units are sorted by length together


@dataclass(frozen=True, kw_only=True, eq=False)
class Members(Sequence[Indices]):
    """The samples of each of U units, 8 bytes for each.

    Attributes:
        samples: [N] indices of samples, unit after unit.
        edges: [U + 1] where each unit begins among them, and N.
    """

    samples: Indices
    edges: Indices

    def __len__(self) -> int:
        return len(self.edges) - 1

    @overload
    def __getitem__(self, index: int) -> Indices: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Indices]: ...

    def __getitem__(self, index: int | slice) -> Indices | Sequence[Indices]:
        if isinstance(index, slice):
            return [self[unit] for unit in range(len(self))[index]]
        unit = range(len(self))[index]
        return self.samples[self.edges[unit] : self.edges[unit + 1]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """The items of batches: U single samples, or U token trees of one user's samples within one period.

    What a unit holds in memory is some numbers; token ids are read, and trees built, when a batch is computed.

    Attributes:
        samples: the N samples of all periods.
        members: [U] indices of the samples of each unit.
        lengths: [U] number of tokens of each unit.
        periods: units of each period.
        trees: whether the samples of a unit form one token tree; otherwise every unit is one sample.
        soft: a teacher's answers to the N samples; None: only the hard labels count.
        head: what else than the model determines the answers to the N samples; None: the model alone.
        next_event_weight: weight of the mean loss of a sample's prompt tokens; 0: they bear no loss.
        weights: [N] weight of each sample's loss, only with ``next_event_weight`` 0; None: all weigh 1.
    """

    samples: Samples
    members: Members
    lengths: Indices
    periods: Sequence[Indices]
    trees: bool
    soft: SoftAnswers | None = None
    head: AnswerHead | None = None
    next_event_weight: float = 0.0
    weights: npt.NDArray[np.float64] | None = None

    @property
    def counts(self) -> Indices:
        """Number of samples of each unit: [U]."""
        return np.diff(self.members.edges)

    def among(self, batch: Indices) -> Indices:
        """Indices of the samples of a batch of units."""
        return np.concatenate([self.members[unit] for unit in batch])

    def require_trained(self, trained: Indices, epochs: int) -> None:
        """Requires that every sample was trained in every epoch.

        Args:
            trained: [N] how often each sample was trained.
            epochs: number of epochs.

        Raises:
            DataError: a sample was trained more or less often.
        """
        wrong = np.flatnonzero(trained != epochs)
        if len(wrong):
            raise DataError(
                f"expected {len(trained)} samples to be trained {epochs} times, found {len(wrong)} that were not, "
                f"first {self.samples.sample_id[wrong[0]]} ({trained[wrong[0]]} times)",
                action="report this with the recipe; the batches do not cover the samples",
            )

    def summed_loss(self, model: PreTrainedModel, batch: Indices) -> Tensor:
        """Sum of the sample losses of a batch of units."""
        members = self.among(batch)
        soft = None if self.soft is None else self.soft.take(members)
        head = None if self.head is None else self.head.take(members)
        if self.next_event_weight:
            return self._summed_with_next_events(model, batch, soft, head)
        if self.trees:
            losses = branch_losses(model, tree_batch(self._trees_of(batch)).to(model.device), soft, head)
        else:
            losses = sample_losses(model, batch_of(self.samples, members).to(model.device), soft, head)
        return losses.sum() if self.weights is None else losses @ torch.from_numpy(self.weights[members]).to(losses)

    def _summed_with_next_events(
        self, model: PreTrainedModel, batch: Indices, soft: SoftAnswers | None, head: AnswerHead | None
    ) -> Tensor:
        weight = self.next_event_weight
        if self.trees:
            return summed_tree_losses(model, self._trees_of(batch), soft, head, next_event_weight=weight)
        rows = batch_of(self.samples, self.among(batch))
        return summed_losses(model, rows, soft, head, next_event_weight=weight)

    def _trees_of(self, batch: Indices) -> list[TokenTree]:
        return [prompt_tree(*_tokens(self.samples, self.members[unit])) for unit in batch]


def single_units(samples: Samples, periods: Sequence[Indices]) -> Units:
    """One unit per sample."""
    edges = np.arange(len(samples) + 1)
    return Units(
        samples=samples,
        members=Members(samples=edges[:-1], edges=edges),
        lengths=sample_lengths(samples),
        periods=list(periods),
        trees=False,
    )


def tree_units(samples: Samples, periods: Sequence[Indices]) -> Units:
    """One token tree per user and period, or several if the samples of a user share little."""
    members, lengths, ends = list[Indices](), list[int](), list[int]()
    for period in periods:
        for family in families(taken(samples.user_id, period), taken(samples.input_ids, period)):
            members.append(period[family])
            lengths.append(tree_size(*_tokens(samples, members[-1])))
        ends.append(len(members))
    return Units(
        samples=samples,
        members=Members(samples=np.concatenate(members), edges=np.cumsum([0, *(len(family) for family in members)])),
        lengths=np.array(lengths, dtype=np.int64),
        periods=[np.arange(start, end) for start, end in pairwise([0, *ends])],
        trees=True,
    )


def _tokens(samples: Samples, members: Indices) -> tuple[list[TokenIds], list[TokenIds]]:
    """Prompts and answers of some samples."""
    return [samples.input_ids[i] for i in members], [samples.completion_ids[i] for i in members]


def plan_steps(units: Units, settings: Training, *, seed: int, team: Team = ALONE) -> list[list[OptimiserStep]]:
    """The steps of each period, reshuffled in every epoch, with the batches of this process.

    ``batch_size * accumulation`` alone chooses the units of a step; ``batch_size`` only divides them into batches, so a
    smaller batch with more accumulation trains the same model in less memory.
    """
    generator = np.random.default_rng(seed)
    plans = [list(_period_steps(units, period, settings, generator)) for period in units.periods]
    counts, total = units.counts, sum(len(plan) for plan in plans)
    rates = iter(
        learning_rate(
            step, total, peak=settings.learning_rate, warmup=settings.warmup_steps, schedule=settings.schedule
        )
        for step in range(total)
    )

    def planned(step: Indices) -> OptimiserStep:
        own = team.share(step, units.lengths[step])
        batches = _batches(units, own, settings.batch_size)
        return OptimiserStep(batches=batches, rate=next(rates), total=int(counts[step].sum()))

    return [[planned(step) for step in plan] for plan in plans]


def _period_steps(units: Units, period: Indices, settings: Training, generator: np.random.Generator) -> list[Indices]:
    """The units of each step of all epochs of one period, as indices of units."""
    lengths, counts = units.lengths[period], units.counts[period]
    size = settings.batch_size * settings.accumulation
    window = max(1, int(WINDOW_STEPS * size / counts.mean()))

    def divide(part: Indices) -> list[Indices]:
        return counted_batches(lengths[part], counts[part], size)

    return [
        period[step]
        for _ in range(settings.epochs)
        for step in shuffled_batches(len(period), generator, window=window, divide=divide)
    ]


def _batches(units: Units, step: Indices, batch_size: int) -> tuple[Indices, ...]:
    """The batches of one step: its units, sorted by length and divided."""
    return tuple(step[batch] for batch in counted_batches(units.lengths[step], units.counts[step], batch_size))


def sample_periods(samples: Samples, count: int, *, seed: int) -> list[Indices]:
    """Divides samples into ``count`` contiguous periods of near-equal numbers of observation dates.

    Samples of a single date have no order in time, so they are divided by a seeded hash of their keys: the influence
    formula still has all its checkpoints.

    Raises:
        ConfigError: there are fewer dates (or, with one date, samples) than periods.
    """
    dates = sorted(set(samples.observation_date))
    units = len(dates) if len(dates) > 1 else len(samples)
    if units < count:
        kind = "observation dates" if len(dates) > 1 else "samples of one date"
        raise ConfigError(
            f"agent.checkpoints is {count}, but there are {units} {kind}", action="lower agent.checkpoints"
        )
    if len(dates) == 1:
        keys = (hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in samples.sample_id)
        hashed = np.argsort(np.fromiter(keys, dtype="S32", count=len(samples)), kind="stable")
        return [np.sort(part) for part in np.array_split(hashed, count)]
    parts = np.array_split(np.arange(len(dates)), count)
    period_of = {dates[index]: number for number, part in enumerate(parts) for index in part}
    days = (period_of[day] for day in samples.observation_date)
    numbers = np.fromiter(days, dtype=np.int64, count=len(samples))
    return [np.flatnonzero(numbers == number) for number in range(count)]
