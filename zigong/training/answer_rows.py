"""The range of p_bad that a base model can attain, and output rows that widen it.

A decoder ends in a norm, so the length of its last hidden state is bounded, and so is every difference of two logits:
for RMSNorm with gain ``g`` and width ``H`` the log-odds of two tokens with output rows ``a`` and ``b`` lie within
``sqrt(H) * |g * (a - b)|`` of the difference of their biases (Cauchy-Schwarz). Training the layers below cannot widen
this range. A base pre-trained on interchangeable answers has learned nearly equal rows for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zigong.errors import ConfigError

SEPARATION = 10.0  # largest log-odds between two answers of a tiny base: p from .00005 to .99995
_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


@dataclass(frozen=True, kw_only=True)
class AnswerRange:
    """The log-odds of bad that a base model can attain with any adapter.

    Attributes:
        low: smallest log-odds, in nats.
        high: largest log-odds, in nats.
    """

    low: float
    high: float

    @property
    def p_bad(self) -> tuple[float, float]:
        """Smallest and largest probability of bad."""
        return 1 / (1 + math.exp(-self.low)), 1 / (1 + math.exp(-self.high))


def answer_range(model: PreTrainedModel, choices: Sequence[Sequence[int]]) -> AnswerRange:
    """The range of the log-odds of the bad choice against the others.

    Args:
        model: a causal language model whose head is linear over a final RMSNorm or LayerNorm.
        choices: token ids of each choice, the bad one first. For choices with several tokens, the first token in which
            they differ is used: the range of the complete answer is at least as wide.

    Raises:
        ConfigError: the model's final norm is of another type, or a choice is a prefix of another.
    """
    bad, *goods = (tuple(choice) for choice in choices)
    ranges = [_pair_range(model, *_first_difference(bad, good)) for good in goods]
    return AnswerRange(low=min(low for low, _ in ranges), high=min(high for _, high in ranges))


def require_attainable(model: PreTrainedModel, choices: Sequence[Sequence[int]], *, bad_rate: float) -> AnswerRange:
    """Returns the range if it covers a twentieth of the bad rate to one minus the bad rate.

    Args:
        model: the base model.
        choices: token ids of each choice, the bad one first.
        bad_rate: share of bad training samples.

    Raises:
        ConfigError: the range is narrower, too narrow for a scorecard.
    """
    found = answer_range(model, choices)
    lowest, highest = bad_rate / 20, 1 - bad_rate
    attained = found.p_bad
    if not (attained[0] <= lowest and highest <= attained[1]):
        raise ConfigError(
            f"the base model can answer p_bad only between {attained[0]:.4f} and {attained[1]:.4f}; at a bad rate of "
            f"{bad_rate:.4f} expected from {lowest:.4f} to {highest:.4f} at least",
            action="build the tiny base again, or name a base whose output rows separate the choices",
        )
    return found


@torch.no_grad()
def separate_answer_rows(
    model: PreTrainedModel, groups: Sequence[Sequence[int]], at_answers: Tensor, *, seed: int
) -> None:
    """Replaces the output rows of each question's answers: equally likely at first, and sufficiently separated.

    Every row of a group becomes the group's mean row plus its own random direction, orthogonal to the mean state before
    an answer, and scaled so that the log-odds of any two answers can reach ``SEPARATION``.

    Args:
        model: a causal language model with an untied head without bias; changed in place.
        groups: token ids of the answers of each question, one token per answer. Groups that share a token are merged.
        at_answers: [H] mean of the normed hidden states from which answers are predicted.
        seed: seed of the directions.
    """
    head = model.get_output_embeddings().weight
    gain = _rms_gain(model)
    generator = torch.Generator().manual_seed(seed)
    width = head.shape[1]
    for tokens in (group for group in _merged(groups) if len(group) > 1):
        directions = torch.randn(len(tokens), width, generator=generator)
        basis = torch.linalg.qr(torch.cat([at_answers[None], directions]).T)[0].T[1:]
        spread = [math.sqrt(width) * float((gain * (a - b)).norm()) for a, b in combinations(basis, 2)]
        head[tokens] = head[tokens].mean(0) + basis * (SEPARATION / min(spread))


def _first_difference(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, int]:
    for a, b in zip(first, second, strict=False):
        if a != b:
            return a, b
    raise ConfigError(
        f"the choice {first} is a prefix of another choice, or equals it: {second}",
        action="edit the template's choices",
    )


def _pair_range(model: PreTrainedModel, bad: int, good: int) -> tuple[float, float]:
    head = model.get_output_embeddings()
    row = (head.weight[bad] - head.weight[good]).detach().float()
    middle = 0.0 if head.bias is None else float(head.bias[bad] - head.bias[good])
    norm = _final_norm(model)
    if isinstance(norm, nn.LayerNorm):
        gained = norm.weight.detach().float() * row
        middle += float(norm.bias.detach().float() @ row) if norm.bias is not None else 0.0
        reach = math.sqrt(len(row)) * float((gained - gained.mean()).norm())
    else:
        reach = math.sqrt(len(row)) * float((_rms_gain(model) * row).norm())
    return middle - reach, middle + reach


def _final_norm(model: PreTrainedModel) -> nn.Module:
    found = [getattr(model.base_model, name) for name in _NORMS if hasattr(model.base_model, name)]
    if not found or not (isinstance(found[0], nn.LayerNorm) or "RMSNorm" in type(found[0]).__name__):
        raise ConfigError(
            f"{type(model).__name__} does not end in an RMSNorm or a LayerNorm, so its range of answers is unknown",
            action="name a base of the Llama, Mistral, Qwen or GPT-2 family",
        )
    norm: nn.Module = found[0]
    return norm


@torch.no_grad()
def _rms_gain(model: PreTrainedModel) -> Tensor:
    """Gain of the final RMSNorm per component: [H]. It is measured, since some model families store gain - 1."""
    norm = _final_norm(model)
    width = model.get_output_embeddings().weight.shape[1]
    ones = torch.ones(1, width)
    gain: Tensor = norm(ones)[0].float()
    return gain


def _merged(groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Merges groups that share a token, in the order of first appearance."""
    merged: list[list[int]] = []
    for group in groups:
        shared = [known for known in merged if set(known) & set(group)]
        merged = [known for known in merged if known not in shared]
        merged.append(list(dict.fromkeys([token for known in (*shared, group) for token in known])))
    return merged
