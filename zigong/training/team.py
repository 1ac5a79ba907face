"""The processes of one training: each takes a share of every step, and all take the same step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, distributed, nn

from zigong.tokens.samples import Indices


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process among those of a training.

    Attributes:
        number: of this process, from 0; number 0 writes the files.
        size: number of processes.
        sharded: whether each process holds a part of the frozen weights.
    """

    number: int = 0
    size: int = 1
    sharded: bool = False

    @classmethod
    def present(cls, *, sharded: bool = False) -> Self:
        """The team of torch's process group, which Ray Train opens; one process where there is none.

        Args:
            sharded: whether several processes divide the frozen weights.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        size = distributed.get_world_size()
        return cls(number=distributed.get_rank(), size=size, sharded=sharded and size > 1)

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.number == 0

    def share(self, units: Indices, lengths: Indices) -> Indices:
        """The units of a step that this process takes; together the processes take each once.

        The longest goes first, each to the process with the fewest tokens so far.

        Args:
            units: [U] units of one step.
            lengths: [U] number of tokens of each.
        """
        if self.size == 1:
            return units
        loads, taken = np.zeros(self.size, dtype=np.int64), np.empty(len(units), dtype=np.int64)
        for place in np.argsort(-lengths, kind="stable"):
            taken[place] = loads.argmin()
            loads[taken[place]] += lengths[place]
        own: Indices = units[taken == self.number]
        return own

    def add_up(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        """Replaces the gradients by their sum over the processes, and returns the sum of the losses."""
        if self.size == 1:
            return loss
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
        total = torch.tensor([loss], dtype=torch.float64, device=flat.device)
        distributed.all_reduce(flat)
        distributed.all_reduce(total)
        for gradient, part in zip(gradients, torch.split(flat, [item.numel() for item in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return float(total)

    def summed(self, counts: Indices) -> Indices:
        """The sum over the processes: [N]."""
        if self.size == 1:
            return counts
        total: Tensor = torch.from_numpy(counts.copy())
        distributed.all_reduce(total)
        return np.asarray(total.numpy())

    def agreed(self, decision: bool) -> bool:
        """The decision of process 0, in every process."""
        if self.size == 1:
            return decision
        said = torch.tensor([int(decision)])
        distributed.broadcast(said, src=0)
        return bool(said)

    def passes_behind(self, passes: int) -> int:
        """How many passes more than this process another one takes in a step, where the weights are sharded."""
        if not self.sharded:
            return 0
        most = torch.tensor([passes])
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return int(most) - passes

    def wait(self) -> None:
        """Returns once every process has come here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Team()
