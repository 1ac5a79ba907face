"""Random batches with little padding, learning rates, and the loop of optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from zigong.tokens.samples import Indices
from zigong.training.team import ALONE, Team

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8

Progress = Callable[[int, int, float], None]
Divide = Callable[[Indices], list[Indices]]


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimiserStep:
    """One optimiser step.

    Attributes:
        batches: the batches of this process, whose gradients add up.
        rate: learning rate.
        total: divisor of the sum of losses: samples or label tokens of the step in all processes.
    """

    batches: tuple[Indices, ...]
    rate: float
    total: int


def learning_rate(
    step: int, total: int, *, peak: float, warmup: int, schedule: Literal["constant", "cosine"] = "cosine"
) -> float:
    """Linear warm-up over ``warmup`` steps, then a constant rate or a half cosine that ends near zero.

    Args:
        step: index of the step, from 0.
        total: number of steps of the training.
        peak: learning rate after warm-up.
        warmup: number of first steps, with rate ``peak * (step + 1) / (warmup + 1)``.
        schedule: schedule after the warm-up.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def shuffled_batches(count: int, generator: np.random.Generator, *, window: int, divide: Divide) -> list[Indices]:
    """Batches in random order, each from one window of the shuffled items.

    Items are shuffled, then sorted and divided within windows of the shuffled order. This keeps padding small while
    every batch remains a random sample of all items.

    Args:
        count: N, the number of items.
        generator: random generator; equal generators give equal batches.
        window: number of items per window.
        divide: items of a window -> index arrays into it.
    """
    order = generator.permutation(count)
    parts = (order[start : start + window] for start in range(0, count, window))
    batches = [part[inner] for part in parts for inner in divide(part)]
    return [batches[index] for index in generator.permutation(len(batches))]


def counted_batches(lengths: Indices, counts: Indices, size: int) -> list[Indices]:
    """Divides items, sorted by length, into batches that end as soon as they have ``size`` samples or more.

    Args:
        lengths: [N] number of tokens of each item.
        counts: [N] number of samples of each item.
        size: samples per batch; the last batch may be smaller.
    """
    order = np.argsort(lengths, kind="stable")
    batches: list[Indices] = []
    start = samples = 0
    for end, count in enumerate(counts[order], start=1):
        samples += int(count)
        if samples >= size or end == len(order):
            batches.append(order[start:end])
            start, samples = end, 0
    return batches


def second_moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """AdamW's second moments v of named parameters, bias-corrected as in its own steps.

    Raises:
        KeyError: a parameter has taken no step.
    """
    states = {name: optimizer.state[parameter] for name, parameter in parameters.items()}
    return {
        name: (state["exp_avg_sq"] / (1 - ADAM_BETAS[1] ** float(state["step"]))).clone().contiguous()
        for name, state in states.items()
    }


def take_steps(
    steps: Sequence[OptimiserStep],
    *,
    optimizer: torch.optim.Optimizer,
    summed_loss: Callable[[Indices], Tensor],
    clip: float | None,
    report: Callable[[float], None],
    idle: Callable[[], Tensor] = lambda: torch.zeros((), requires_grad=True),
    team: Team = ALONE,
) -> None:
    """Takes all steps; each uses the gradient of (sum of losses) / total over the batches of all processes.

    Args:
        steps: batches of this process and learning rates, in order.
        optimizer: optimiser of the parameters; a group's ``rate`` multiplies the rate of a step.
        summed_loss: indices of a batch -> sum of its losses.
        clip: largest gradient norm; None: no clipping.
        report: called after each step with its mean loss.
        idle: a pass whose loss is 0: the processes of a sharded team put each layer together in equally many passes.
        team: the processes that take each step together.
    """
    parameters: list[nn.Parameter] = [item for group in optimizer.param_groups for item in group["params"]]
    for step in steps:
        mean, behind = 0.0, team.passes_behind(len(step.batches))
        own = (summed_loss(batch) / step.total for batch in step.batches)
        for loss in chain(own, (idle() for _ in range(behind))):
            loss.backward()  # type: ignore[no-untyped-call]
            mean += float(loss.detach())
        mean = team.add_up(parameters, mean)
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        for group in optimizer.param_groups:
            group["lr"] = step.rate * group.get("rate", 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        report(mean)
