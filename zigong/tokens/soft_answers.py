"""Soft answers of a teacher at the answer's token, mixed with the hard labels (Hinton et al., arXiv 1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zigong.tokens.samples import Indices


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftAnswers:
    """A teacher's answers to N samples, in the order of the samples.

    Attributes:
        p_bad: [N] the teacher's probability of bad; NaN where it has none, and the loss is that of the hard label.
        place: index of the answer's token among a sample's label tokens.
        bad: token id of the bad answer at that place.
        good: token id of the good answer at that place.
        weight: [N] share of the soft answer in the loss of the answer's token.
    """

    p_bad: npt.NDArray[np.float64]
    place: int
    bad: int
    good: int
    weight: npt.NDArray[np.float64]

    def take(self, indices: Indices) -> Self:
        """The answers to the samples at ``indices``, in that order."""
        return replace(self, p_bad=self.p_bad[indices], weight=self.weight[indices])

    def mixed(self, losses: Tensor, logits: Tensor, label_samples: Tensor) -> Tensor:
        """The losses, where those of answer tokens become ``weight`` x soft + (1 - ``weight``) x hard.

        The soft loss is the cross-entropy of the teacher's answer over the two choices with the softmax over the
        complete vocabulary, as that of the hard label is: with a p_bad of 0 or 1 the two are equal.

        Args:
            losses: [M] loss of each label token against the hard label.
            logits: [M, V] at the label tokens.
            label_samples: [M] sample of each label token, ascending.

        Returns:
            [M].
        """
        taught = torch.from_numpy(np.flatnonzero(~np.isnan(self.p_bad))).to(losses.device)
        p_bad, weight = (torch.from_numpy(column).to(losses)[taught] for column in (self.p_bad, self.weight))
        tokens = torch.searchsorted(label_samples, taught) + self.place
        logs = logits[tokens].log_softmax(-1)
        soft = -(p_bad * logs[:, self.bad] + (1 - p_bad) * logs[:, self.good])
        return losses.index_add(0, tokens, weight * (soft - losses[tokens]))
