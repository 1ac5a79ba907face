"""What a model makes of prompts before it becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zigong.tokens.samples import Indices

States = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Arrays that are filled batch by batch.

    Attributes:
        scores: [N, C] log-likelihood of each choice.
        greedy: [N] the likeliest first token.
        states: [N, H] last hidden state after the prompt; [N, 0] if nobody reads them.
    """

    scores: NDArray[np.float64]
    greedy: Indices
    states: States

    @classmethod
    def unscored(cls, prompts: int, choices: int, *, width: int) -> Self:
        """Zeros: shapes [prompts, choices], [prompts] and [prompts, width]."""
        states = np.zeros((prompts, width), dtype=np.float32)
        return cls(scores=np.zeros((prompts, choices)), greedy=np.zeros(prompts, dtype=np.int64), states=states)

    def put(self, indices: Indices, scores: NDArray[np.float64], greedy: Indices, states: Tensor) -> None:
        """Fills in the prompts at ``indices``: scores [n, C], greedy [n], states [n, H]."""
        self.scores[indices], self.greedy[indices] = scores, greedy
        self.states[indices] = states[:, : self.states.shape[1]].float().cpu().numpy()
