"""Which months fold until a prompt fits: one rule for a single user and for batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


class Priced(Protocol):
    """A prompt whose length in tokens is known."""

    @property
    def tokens(self) -> int:
        """Tokens of history and branch."""


P = TypeVar("P", bound=Priced)


def fold_steps(months: npt.NDArray[np.int64]) -> Integers:
    """The step at which each event would fold: months fold whole, in the order in which their first events stand.

    Args:
        months: calendar month of each event.
    """
    _, first, inverse = np.unique(months, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def folded_to_fit(steps: Integers, told: Callable[[int], P], max_tokens: int, *, first: int = 0) -> P:
    """The prompt with the fewest months folded that fits; the one of the newest month alone where none does.

    Args:
        steps: of the events, by ``fold_steps``.
        told: the prompt without the events of steps below its argument.
        max_tokens: tokens that a prompt may have.
        first: the caller knows that with fewer steps folded no prompt fits.
    """
    last = int(steps.max(initial=0))
    for step in range(min(first, last), last):
        prompt = told(step)
        if prompt.tokens <= max_tokens:
            return prompt
    return told(last)
