"""A boosted card: LightGBM on baseline features and on the log-odds and last states of a language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zigong.evaluation.baselines import SEEDS
from zigong.evaluation.boosting import BoostedTrees, tree_files
from zigong.evaluation.readout import READOUT, Readout, with_readout
from zigong.evaluation.scored import States
from zigong.files.digests import combined_digest
from zigong.runs.card_values import BoostedCard
from zigong.training.file_digests import FileDigests

Floats = NDArray[np.float64]

BOOSTED_FILES = (*tree_files(SEEDS), READOUT)


@dataclass(frozen=True, kw_only=True)
class Boosted:
    """What a card adds to its language model: trees that read its log-odds and states beside the features.

    Attributes:
        boosted: digests of the files of the trees and of the readout.
        outcome_events: event types that state a repayment status, an input of the features.
    """

    FOLDER: ClassVar[str] = "boosted"
    READS_STATES: ClassVar[bool] = True

    boosted: FileDigests
    outcome_events: tuple[str, ...]

    @classmethod
    def of(cls, card: BoostedCard) -> Self:
        """What the boosted card of a run adds to its final model."""
        return cls(boosted=FileDigests.of(card.folder, BOOSTED_FILES), outcome_events=card.outcome_events)

    @property
    def files(self) -> FileDigests:
        """Digests of the files in ``FOLDER`` of a registered model."""
        return self.boosted

    def with_files(self, files: FileDigests) -> Self:
        """The same with other trees and another readout."""
        return replace(self, boosted=files)

    @property
    def digest(self) -> str:
        """SHA-256 of everything except model and sequence that determines an answer, as 64 hex digits."""
        return combined_digest({"boosted": self.boosted.digest, "events": "|".join(self.outcome_events)})

    def opened(self, folder: Path) -> Callable[[Floats, States | None, pd.DataFrame], Floats]:
        """Loads trees and readout, whose files were verified."""
        readout, trees = Readout.load(folder), BoostedTrees.load(folder)
        return lambda p_model, states, features: trees(with_readout(features, readout(p_model, states)))
