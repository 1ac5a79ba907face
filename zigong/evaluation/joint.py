"""A joint card: a language model and a tower on baseline features that were trained together, end to end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit

from zigong.evaluation.calibration import log_odds
from zigong.evaluation.feature_words import FeatureWords
from zigong.evaluation.scored import States
from zigong.files.digests import combined_digest
from zigong.runs.card_values import JointModel
from zigong.training.file_digests import FileDigests
from zigong.training.tower import TOWER_FILES, Tower, load_tower

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Joint:
    """What a card adds to its language model: a tower that reads the model's last state and the features.

    Attributes:
        tower: digests of its files.
        outcome_events: event types that state a repayment status, an input of the features.
    """

    FOLDER: ClassVar[str] = "tower"
    READS_STATES: ClassVar[bool] = True

    tower: FileDigests
    outcome_events: tuple[str, ...]

    @classmethod
    def of(cls, model: JointModel) -> Self:
        """What a joint model of a run adds to its adapter."""
        return cls(tower=FileDigests.of(model.folder, TOWER_FILES), outcome_events=model.outcome_events)

    @property
    def files(self) -> FileDigests:
        """Digests of the files in ``FOLDER`` of a registered model."""
        return self.tower

    def with_files(self, files: FileDigests) -> Self:
        """The same with another tower."""
        return replace(self, tower=files)

    @property
    def digest(self) -> str:
        """SHA-256 of everything except model and sequence that determines an answer, as 64 hex digits."""
        return combined_digest({"tower": self.tower.digest, "events": "|".join(self.outcome_events)})

    def opened(self, folder: Path) -> OpenedTower:
        """Loads the tower, whose files were verified."""
        tower, columns = load_tower(folder)
        return OpenedTower(tower=tower, words=FeatureWords.from_json(columns))


@dataclass(frozen=True, kw_only=True)
class OpenedTower:
    """A tower in memory."""

    tower: Tower
    words: FeatureWords

    def __call__(self, p_model: Floats, states: States | None, features: pd.DataFrame) -> Floats:
        """Probabilities of model and tower together; shape [rows].

        Args:
            p_model: probabilities of the language model; shape [rows].
            states: its last hidden states at the answer cue; shape [rows, width].
            features: baseline features.
        """
        if states is None:
            raise TypeError("a joint card needs the states of its language model")
        with torch.inference_mode():
            added = self.tower(torch.from_numpy(states), torch.from_numpy(self.words(features)))
        p: Floats = expit(log_odds(p_model) + added.double().numpy())
        return p
