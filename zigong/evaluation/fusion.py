"""A card of two parts: a language model and boosted trees on baseline features, whose log-odds are added with weights.

What a card adds to its language model, these trees, those of a boosted card or the tower of a joint model, is
registered, opened and asked here.

The sum of weighted log-odds is late fusion, or stacking (Wolpert 1992). The weights are fitted on ``select``, which
trains neither part, and are 0 or more: a part without value gets 0 and cannot invert the ranking of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from zigong.errors import DataError
from zigong.evaluation.answers import states_of, without_states
from zigong.evaluation.boosted import Boosted
from zigong.evaluation.boosting import BoostedTrees
from zigong.evaluation.calibration import log_odds
from zigong.evaluation.joint import Joint
from zigong.evaluation.published_features import PublishedFeatures
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.evaluation.scored import States
from zigong.features.baseline import SEQUENCE_COLUMNS, baseline_features
from zigong.files.digests import combined_digest
from zigong.instructions.prompt_spec import PromptSpec
from zigong.training.adapters import model_name
from zigong.training.file_digests import FileDigests

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """``p = 1 / (1 + exp(-(intercept + model * logit(p_model) + trees * logit(p_trees))))``."""

    intercept: float
    model: float
    trees: float


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """What a card adds to a language model.

    Attributes:
        trees: digests of the files of the trees.
        outcome_events: event types that state a repayment status, an input of the features.
        stack: weights of the two parts.
    """

    FOLDER: ClassVar[str] = "trees"
    READS_STATES: ClassVar[bool] = False

    trees: FileDigests
    outcome_events: tuple[str, ...]
    stack: Stack

    @property
    def files(self) -> FileDigests:
        """Digests of the files in ``FOLDER`` of a registered model."""
        return self.trees

    def with_files(self, files: FileDigests) -> Self:
        """The same with other trees."""
        return replace(self, trees=files)

    @property
    def digest(self) -> str:
        """SHA-256 of everything except model and sequence that determines an answer, as 64 hex digits."""
        weights = "|".join(repr(value) for value in asdict(self.stack).values())
        return combined_digest({"trees": self.trees.digest, "events": "|".join(self.outcome_events), "stack": weights})

    def opened(self, folder: Path) -> Combined:
        """Loads the trees, whose files were verified."""
        trees = BoostedTrees.load(folder)
        return lambda p_model, _, features: stacked(self.stack, p_model, trees(features))


Added = Fusion | Joint | Boosted


class Combined(Protocol):
    """Probabilities of a language model and of what is added to it; shape [rows]."""

    def __call__(self, p_model: Floats, states: States | None, features: pd.DataFrame, /) -> Floats:
        """Combines probabilities [rows], last states [rows, width] and baseline features of the same rows."""


def card_name(added: Added, adapter_digest: str) -> str:
    """The model_id of a card of a language model with this adapter and of what is added to it."""
    return model_name(combined_digest({"fusion": added.digest, "adapter": adapter_digest}))


def fit_stack(p_model: Floats, p_trees: Floats, label: NDArray[np.integer]) -> Stack:
    """Fits the weights by maximum likelihood; those of the parts are 0 or more.

    Args:
        p_model: probabilities of the language model; shape [samples].
        p_trees: probabilities of the trees; shape [samples].
        label: 1 = bad; shape [samples].

    Raises:
        DataError: one class is missing.
    """
    bad = np.asarray(label) == 1
    if bad.all() or not bad.any():
        raise DataError(
            f"expected both classes, found {int(bad.sum())} bad of {len(bad)} labels",
            action="fit the weights of card.head: fused on a split that contains both classes",
        )
    inputs = np.column_stack([np.ones(len(bad)), log_odds(p_model), log_odds(p_trees)])

    def loss(weights: Floats) -> tuple[float, Floats]:
        eta = inputs @ weights
        return float(np.mean(np.logaddexp(0, eta) - bad * eta)), inputs.T @ (expit(eta) - bad) / len(bad)

    bounds = [(None, None), (0, None), (0, None)]
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    start = np.array([0.0, 0.5, 0.5])
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return Stack(intercept=float(fit.x[0]), model=float(fit.x[1]), trees=float(fit.x[2]))


def stacked(stack: Stack, p_model: Floats, p_trees: Floats) -> Floats:
    """Probabilities of both parts together; shape [samples]."""
    p: Floats = expit(stack.intercept + stack.model * log_odds(p_model) + stack.trees * log_odds(p_trees))
    return p


def fused_answers(answers: pa.Table, p_bad: Floats, choices: Sequence[str]) -> pa.Table:
    """The answers of a language model with other probabilities: the answer is the more probable choice.

    A miss stays a miss, and a prompt that does not fit stays without an answer.

    Args:
        answers: columns p_bad, answer and miss of N prompts, p_bad null where one does not fit.
        p_bad: shape [N].
        choices: possible answers, the bad one first.
    """
    unanswered = answers["p_bad"].is_null().to_numpy()
    missed = unanswered | pc.fill_null(answers["miss"], True).to_numpy()
    columns = {
        "p_bad": pa.array(p_bad, pa.float64(), mask=unanswered),
        "answer": pa.array(np.where(p_bad >= 0.5, choices[0], choices[1]), pa.string(), mask=missed),
    }
    for name, column in columns.items():
        answers = answers.set_column(answers.column_names.index(name), name, column)
    return answers


@dataclass(frozen=True, kw_only=True)
class FusedPart:
    """What an answering worker needs to add trees or a tower to the answers of a language model.

    Attributes:
        fusion: trees with their weights or readout, or the tower.
        folder: the folder of its files.
        prompts: settings of the language model, whose history, time zone and currency the features share.
        sequences: the sequences of the features.
        features: the published features, where they were computed with the settings of this card; else the workers
            compute them from the sequences.
    """

    fusion: Added
    folder: Path
    prompts: PromptSpec
    sequences: PublishedSequences
    features: PublishedFeatures | None = None

    def open(self) -> OpenedFusion:
        """Loads the trees or the tower.

        Raises:
            DataError: a file is missing or differs from the registered one.
        """
        self.fusion.files.verify(self.folder)
        return OpenedFusion(self, self.fusion.opened(self.folder))


@dataclass(frozen=True)
class OpenedFusion:
    """A fused part with its trees or its tower in memory."""

    part: FusedPart
    combined: Combined

    def applied(self, answers: pa.Table, prompts: pa.Table, shard: Mapping[str, Any]) -> pa.Table:
        """The answers of a language model with p_bad of both parts together, sorted by sample_id.

        Args:
            answers: columns of ``OpenedModel.answers``; p_bad is null where a prompt does not fit.
            prompts: PROMPT_KEYS of the same samples, sorted by sample_id.
            shard: the shard of the samples.
        """
        if not len(prompts):
            return without_states(answers)
        part, answers = self.part, answers.sort_by("sample_id")
        if part.features is not None:
            p_bad = self._of_features(answers, part.features.read(prompts, shard=shard))
        else:
            read = part.sequences.under(part.sequences.read(shard, SEQUENCE_COLUMNS, keys=prompts), part.prompts)
            p_bad = self.of_both(answers, read)
        return fused_answers(without_states(answers), p_bad, part.prompts.template.choices)

    def of_both(self, answers: pa.Table, sequences: pa.Table) -> Floats:
        """Probabilities of both parts together; shape [sequences].

        Args:
            answers: answers of the language model to the sequences, in their order; where a prompt does not fit, p_bad
                counts as 0.5 and the state as 0.
            sequences: rows of user_sequences as the language model reads them, with SEQUENCE_COLUMNS.
        """
        part = self.part
        asked, timezone = part.prompts.settings, part.prompts.timezone
        features = baseline_features(
            sequences, part.fusion.outcome_events, timezone, asked.currency, asked.counted_attributes
        )
        return self._of_features(answers, features)

    def _of_features(self, answers: pa.Table, features: pd.DataFrame) -> Floats:
        p_model = np.nan_to_num(answers["p_bad"].to_numpy(), nan=0.5)
        return self.combined(p_model, states_of(answers), features)
