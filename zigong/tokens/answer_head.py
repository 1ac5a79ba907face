"""A head beside a language model: which of two answers is the more probable depends on more than the prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from zigong.tokens.samples import Indices


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerHead:
    """Adds the output of a tower to the log-odds of two answers of one token each.

    The language model alone determines how probable it is that one of the two follows; the sum, which of them.
    Cross-entropy over the vocabulary is then the binary cross-entropy of the sum, plus that of one of the two
    following at all.

    Attributes:
        tower: last hidden states at the answer cue [n, H], inputs [n, C] -> what is added to the log-odds of bad [n].
        inputs: [N, C] further inputs of N samples.
        asked: [N] whether the tower answers a sample; the others are left to the language model.
        bad: token id of the bad answer.
        good: token id of the good answer.
    """

    tower: Callable[[Tensor, Tensor], Tensor]
    inputs: Indices
    asked: npt.NDArray[np.bool_]
    bad: int
    good: int

    def take(self, indices: Indices) -> Self:
        """The head of the samples at ``indices``, in that order."""
        return replace(self, inputs=self.inputs[indices], asked=self.asked[indices])

    def answered(self, logits: Tensor, hidden: Tensor, label_samples: Tensor) -> Tensor:
        """The logits with those of the two answers changed at the first label token of each sample that is asked.

        Args:
            logits: [M, V] at the label tokens.
            hidden: [M, H] last hidden states there.
            label_samples: [M] sample of each label token, ascending.

        Returns:
            [M, V].
        """
        chosen = np.flatnonzero(self.asked)
        cues = torch.searchsorted(label_samples, torch.from_numpy(chosen).to(label_samples.device))
        inputs = torch.from_numpy(self.inputs[chosen]).to(logits.device)
        bad, good = logits[cues, self.bad], logits[cues, self.good]
        either, odds = torch.logaddexp(bad, good), bad - good + self.tower(hidden[cues], inputs).to(logits)
        columns = torch.tensor([self.bad, self.good], device=logits.device)
        values = torch.stack([either + logsigmoid(odds), either + logsigmoid(-odds)], dim=1)
        return logits.index_put((cues[:, None], columns), values)
