"""What a language model says of a prompt, as a few numbers: its log-odds and principal components of its last state.

Models that were trained apart have other axes and other scales. Their numbers become comparable on prompts that none of
them was trained on: there every number has mean 0 and variance 1, and the components of one model are what its states
tell of another's by least squares. No label is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from zigong.errors import DataError
from zigong.evaluation.answers import states_of
from zigong.evaluation.calibration import log_odds
from zigong.evaluation.scored import States

Floats = NDArray[np.float64]

READOUT = "readout.safetensors"
LOG_ODDS, COMPONENT = "language_model_log_odds", "language_model_component_{}"
SPARE = 3  # components of a model that is translated, for each component that it is translated into, beside the first
_FLAT = 1e-6  # of the largest deviation: a direction with less is rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout:
    """A language model's log-odds and components, scaled on prompts that it was not trained on.

    Attributes:
        log_odds: mean and standard deviation of its log-odds there; shape [2].
        centre: mean of its last states there; shape [H].
        axes: what a state is multiplied by after its centre was taken off; shape [H, K].
    """

    log_odds: Floats
    centre: Floats
    axes: Floats

    @classmethod
    def fitted(cls, answers: pa.Table, components: int, *, spare: int = 0) -> Self:
        """The readout of a model.

        Args:
            answers: its answers with states to prompts that it was not trained on.
            components: number of components, 0 or more.
            spare: further components, as far as the states have them.

        Raises:
            DataError: the states differ in fewer than K directions.
        """
        odds = log_odds(answers["p_bad"].to_numpy())
        states = np.asarray(states_of(answers), dtype=np.float64)
        centre = states.mean(axis=0)
        _, deviations, directions = np.linalg.svd(states - centre, full_matrices=False)
        known = int((deviations > _FLAT * deviations[0]).sum()) if len(deviations) else 0
        if known < components:
            raise DataError(
                f"card.boosted.components is {components}, but the states of {len(states)} held-out prompts differ in "
                f"{known} directions",
                action="lower card.boosted.components, or hold out more samples",
            )
        kept = min(components + spare, known)
        axes = directions[:kept].T * np.sqrt(len(states)) / deviations[:kept]
        return cls(log_odds=np.array([odds.mean(), odds.std() or 1.0]), centre=centre, axes=axes)

    def __call__(self, p_bad: Floats, states: States | None) -> Floats:
        """Scaled log-odds, then components; shape [rows, 1 + K].

        Args:
            p_bad: probabilities of the model; shape [rows].
            states: its last states after the prompts; shape [rows, H].
        """
        if states is None:
            raise TypeError("a boosted card needs the states of its language model")
        mean, deviation = self.log_odds
        return np.column_stack([(log_odds(p_bad) - mean) / deviation, (states - self.centre) @ self.axes])

    def of(self, answers: pa.Table) -> Floats:
        """The same for a table of answers with states."""
        return self(answers["p_bad"].to_numpy(), states_of(answers))

    def translated(self, own: Floats, other: Floats) -> Self:
        """This readout with the components of another model, as far as its own tell them; their variance is 1 as well.

        Its own are uncorrelated and scaled where they were fitted, so the weights of least squares are correlations.

        Args:
            own: what it says of the prompts that it was fitted on; shape [prompts, 1 + own components].
            other: what the other model's readout says of the same prompts; shape [prompts, 1 + K].
        """
        weights = own[:, 1:].T @ other[:, 1:] / len(own)
        deviations = np.sqrt((weights**2).sum(axis=0))
        return replace(self, axes=self.axes @ (weights / np.where(deviations > 0, deviations, 1.0)))

    def save(self, folder: Path) -> None:
        """Writes READOUT into an existing folder."""
        tensors = {"log_odds": self.log_odds, "centre": self.centre, "axes": np.ascontiguousarray(self.axes)}
        save_file(tensors, folder / READOUT)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what :meth:`save` wrote."""
        return cls(**load_file(folder / READOUT))


def with_readout(features: pd.DataFrame, told: Floats) -> pd.DataFrame:
    """Baseline features with what a language model says of the same rows as further columns.

    Args:
        features: baseline features; shape [rows, columns].
        told: the numbers of a readout; shape [rows, 1 + K].
    """
    names = [LOG_ODDS, *(COMPONENT.format(number) for number in range(1, told.shape[1]))]
    return pd.concat([features, pd.DataFrame(told, columns=names, index=features.index)], axis=1)


def agreement(own: Floats, other: Floats) -> Floats:
    """The correlation of each number of two models over the same prompts; shape [1 + K].

    Args:
        own: shape [prompts, 1 + K].
        other: shape [prompts, 1 + K].
    """
    both = (own - own.mean(axis=0)) * (other - other.mean(axis=0))
    scale = own.std(axis=0) * other.std(axis=0)
    return np.asarray(both.mean(axis=0) / np.where(scale > 0, scale, 1.0))
