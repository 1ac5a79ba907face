"""Folds the oldest months until a prompt fits; the same rule serves a single user and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


class Tokenised(Protocol):
    """A prompt whose length in tokens is known."""

    @property
    def tokens(self) -> int:
        """Tokens of history and branch."""


P = TypeVar("P", bound=Tokenised)


def fold_steps(months: npt.NDArray[np.int64]) -> Integers:
    """The step at which each event is folded: months fold completely, in the order of their first events.

    Args:
        months: calendar month of each event.
    """
    _, first, inverse = np.unique(months, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def folded_to_fit(steps: Integers, prompt_from: Callable[[int], P], max_tokens: int, *, first: int = 0) -> P:
    """The prompt with the fewest folded months that fits; if none fits, the prompt of the newest month alone.

    Args:
        steps: fold step of each event, from ``fold_steps``.
        prompt_from: returns the prompt without the events whose step is below its argument.
        max_tokens: largest number of tokens of a prompt.
        first: step to start from; the caller knows that no prompt fits at an earlier one.
    """
    last = int(steps.max(initial=0))
    for step in range(min(first, last), last):
        prompt = prompt_from(step)
        if prompt.tokens <= max_tokens:
            return prompt
    return prompt_from(last)
