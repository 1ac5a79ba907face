"""The state of a training in mid-run, from which a killed training goes on to the same weights.

Weights, the optimiser's moments, the generator of dropout, the losses and what was trained are tensors of one
safetensors file: nothing is pickled.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zigong.files.atomic import promoted_file
from zigong.recipe import Engine
from zigong.tokens.samples import Indices
from zigong.training.team import Team

STATE = "state.safetensors"
PERIODS = "periods"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Where and how often a training saves its state.

    Attributes:
        folder: folder of one training, which every process of every attempt can access.
        every_s: seconds between two snapshots.
    """

    folder: Path
    every_s: float

    @classmethod
    def of(cls, folder: Path, engine: Engine) -> Self:
        """In a folder, as often as the recipe says."""
        return cls(folder=folder, every_s=engine.training_snapshot_s)

    def end(self) -> None:
        """Removes the files of a training that has ended: they are a model of clients that no erasure would find."""
        (self.folder / STATE).unlink(missing_ok=True)  # first: a state without its periods could not go on
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(kw_only=True)
class Course:
    """How far a training has come.

    Attributes:
        identity: digest of everything that determines the training; a snapshot of another one is not read.
        parameters: the trained parameters by name.
        optimizer: their optimiser.
        trained: [N] how often this process trained each sample.
        losses: mean loss of each step so far.
    """

    identity: str
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    trained: Indices
    losses: list[float]

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    def save(self, folder: Path, team: Team) -> None:
        """Process 0 writes the state, completely or not at all.

        Args:
            folder: of the snapshots.
            team: the processes of the training.
        """
        trained = team.summed(self.trained)
        if not team.leads:
            return
        tensors: dict[str, Tensor] = {
            "generator": _generator(self._device),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "trained": torch.from_numpy(trained.copy()),
        }
        for name, parameter in self.parameters.items():
            tensors[f"weight.{name}"] = parameter.detach().contiguous()
            tensors |= {f"{key}.{name}": self.optimizer.state[parameter][key] for key in _MOMENTS}
        with promoted_file(folder / STATE) as partial:
            save_file(tensors, partial, metadata={"identity": self.identity})

    def resume(self, folder: Path, *, leads: bool) -> None:
        """Takes over the state of a snapshot of the same training; without one nothing changes.

        Args:
            folder: of the snapshots.
            leads: whether this process counts what all processes trained before.
        """
        file = folder / STATE
        if not file.is_file() or _identity(file) != self.identity:
            return
        tensors = load_file(file)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight.{name}"])
                moments = {key: tensors[f"{key}.{name}"] for key in _MOMENTS}
                self.optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in moments.items()
                }
        _set_generator(self._device, tensors["generator"])
        self.losses[:] = tensors["losses"].tolist()
        if leads:
            self.trained[:] = tensors["trained"].numpy()


class Clock:
    """Says when the next snapshot is due."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._last = every_s, time.monotonic()

    def due(self) -> bool:
        """Whether so many seconds have passed since the last time it was."""
        if time.monotonic() - self._last < self._every_s:
            return False
        self._last = time.monotonic()
        return True


def _generator(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_generator(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _identity(file: Path) -> str:
    with safe_open(file, framework="pt") as opened:
        return str((opened.metadata() or {}).get("identity", ""))
