"""Random batches with little padding, learning rates, and the loop of optimiser steps."""

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
    weight: Callable[[Indices], int],
    clip: float | None,
    report: Callable[[float], None],
) -> None:
    """Takes all steps; each uses the gradient of (sum of losses) / (sum of weights) over the batches of the step.

    Args:
        steps: batches and learning rates, in order.
        optimizer: optimiser of the parameters; a group's ``rate`` multiplies the rate of a step.
        summed_loss: indices of a batch -> sum of its losses.
        weight: indices of a batch -> divisor of its sum: number of samples or of label tokens.
        clip: largest gradient norm; None: no clipping.
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
            group["lr"] = step.rate * group.get("rate", 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        report(mean)
