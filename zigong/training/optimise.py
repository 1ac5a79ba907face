"""Batches in random order with little padding, learning rates, and the one loop that takes optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from zigong.tokens.samples import Indices

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8

Progress = Callable[[int, int, float], None]
Divide = Callable[[Indices], list[Indices]]


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimiserStep:
    """One optimiser step: its batches, whose gradients add up, and its learning rate."""

    batches: tuple[Indices, ...]
    rate: float


def learning_rate(
    step: int, total: int, *, peak: float, warmup: int, schedule: Literal["constant", "cosine"] = "cosine"
) -> float:
    """Linear warm-up over ``warmup`` steps, then constant or a half cosine that ends near zero.

    Args:
        step: 0 is the first step.
        total: steps of the whole training.
        peak: the rate after warm-up.
        warmup: steps whose rate is ``peak * (step + 1) / (warmup + 1)``.
        schedule: what follows.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def shuffled_batches(count: int, generator: np.random.Generator, *, window: int, divide: Divide) -> list[Indices]:
    """Batches in random order, each from one window of the shuffled items.

    Items are shuffled, and only within windows of the shuffled order sorted and divided; so padding stays small and
    every batch stays a draw from the whole.

    Args:
        count: items N.
        generator: source of the order; equal generators give equal batches.
        window: items of a window.
        divide: items of a window -> index arrays into it.
    """
    order = generator.permutation(count)
    parts = (order[start : start + window] for start in range(0, count, window))
    batches = [part[inner] for part in parts for inner in divide(part)]
    return [batches[index] for index in generator.permutation(len(batches))]


def counted_batches(lengths: Indices, counts: Indices, size: int) -> list[Indices]:
    """Divides items, sorted by length, into batches that end where they hold ``size`` samples or more.

    Args:
        lengths: [N] tokens of each item.
        counts: [N] samples of each item.
        size: samples of a batch; the last one may be smaller.
    """
    order = np.argsort(lengths, kind="stable")
    batches: list[Indices] = []
    start = held = 0
    for end, count in enumerate(counts[order], start=1):
        held += int(count)
        if held >= size or end == len(order):
            batches.append(order[start:end])
            start, held = end, 0
    return batches


def second_moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """AdamW's second moments v of named parameters, corrected for their bias as its own steps are.

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
    weight: Callable[[Indices], int],
    clip: float | None,
    report: Callable[[float], None],
) -> None:
    """Takes every step: its gradient is that of (sum of losses) / (sum of weights) over the batches of the step.

    Args:
        steps: batches and rates, in order.
        optimizer: holds the parameters.
        summed_loss: indices of a batch -> the sum of its losses.
        weight: indices of a batch -> what its sum is divided by: samples, or label tokens.
        clip: largest norm of a gradient, None = unbounded.
        report: called after each step with its mean loss.
    """
    parameters: list[nn.Parameter] = [item for group in optimizer.param_groups for item in group["params"]]
    for step in steps:
        total = sum(weight(batch) for batch in step.batches)
        mean = 0.0
        for batch in step.batches:
            loss = summed_loss(batch) / total
            loss.backward()  # type: ignore[no-untyped-call]
            mean += float(loss.detach())
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        for group in optimizer.param_groups:
            group["lr"] = step.rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        report(mean)
