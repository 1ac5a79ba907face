"""A teacher's answers to train samples, as targets of the final model's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zigong.errors import ConfigError, DataError
from zigong.tokens.columns import DerivedColumn
from zigong.tokens.samples import NO_LABEL, Samples, TokenIds
from zigong.tokens.soft_answers import SoftAnswers
from zigong.tokens.tree import common_prefix


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Answers of another model to the main question.

    Attributes:
        p_bad: probability of bad of each sample that it answered.
        choices: token ids of the two choices, the bad one first.
    """

    p_bad: Mapping[str, float]
    choices: tuple[Sequence[int], Sequence[int]]

    @property
    def place(self) -> int:
        """Index of the first token in which the choices differ.

        Raises:
            ConfigError: a choice is a prefix of the other one.
        """
        bad, good = (np.asarray(choice, dtype=np.int32) for choice in self.choices)
        place = common_prefix(bad, good)
        if place == min(len(bad), len(good)):
            raise ConfigError(
                f"the choice {bad.tolist()} is a prefix of {good.tolist()}, or the reverse: no token tells them apart",
                action="edit the template's choices, or set finetune.distil.weight: 0",
            )
        return place

    def without_guesses(self, samples: Samples) -> Samples:
        """The samples, where those without a label keep no token after the one that the teacher answers.

        What follows this token depends on the answer, which is not known.
        """
        if not (samples.label == NO_LABEL).any():
            return samples
        end = self.place + 1

        def kept(ids: TokenIds, label: int) -> TokenIds:
            return ids[:end] if label == NO_LABEL else ids

        return replace(samples, completion_ids=DerivedColumn(kept, samples.completion_ids, samples.label))

    def soft_answers(self, samples: Samples, *, weight: float) -> SoftAnswers:
        """The answers to ``samples``, in their order; those of further questions have none.

        Args:
            samples: training samples, with the completions that bear loss.
            weight: share of the soft answer in the loss of a sample with a label; without a label it is 1.

        Raises:
            ConfigError: a choice is a prefix of the other one.
            DataError: no sample has an answer, one without a label has none, an answer is no probability, or a taught
                sample's completion is none of the choices.
        """
        bad, good = (np.asarray(choice, dtype=np.int32) for choice in self.choices)
        place = self.place
        known = (self.p_bad.get(key, np.nan) for key in samples.sample_id)
        p_bad = np.fromiter(known, dtype=np.float64, count=len(samples))
        self._require_answers(samples, p_bad)
        for index in np.flatnonzero(~np.isnan(p_bad)):
            answer = samples.completion_ids[index][: place + 1]
            if answer.tolist() not in (bad[: place + 1].tolist(), good[: place + 1].tolist()):
                raise DataError(
                    f"sample {samples.sample_id[index]} is taught, but its completion begins with {answer.tolist()}; "
                    f"expected one of the choices {bad.tolist()} and {good.tolist()}",
                    action="give a teacher only samples of the main question, encoded by the same tokenizer",
                )
        weights = np.where(samples.label == NO_LABEL, 1.0, weight)
        return SoftAnswers(p_bad=p_bad, place=place, bad=int(bad[place]), good=int(good[place]), weight=weights)

    def _require_answers(self, samples: Samples, p_bad: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        unanswered = np.flatnonzero(np.isnan(p_bad) & (samples.label == NO_LABEL))
        if len(unanswered):
            raise DataError(
                f"{len(unanswered)} samples have neither a label nor a teacher's answer, first "
                f"{samples.sample_id[unanswered[0]]}",
                action="compute the teacher's answers for the samples of the split unlabelled, too",
            )
        outside = np.flatnonzero((p_bad < 0) | (p_bad > 1))
        if np.isnan(p_bad).all() or len(outside):
            found = f"p_bad {p_bad[outside[0]]} of {samples.sample_id[outside[0]]}" if len(outside) else "no answer"
            raise DataError(
                f"expected a teacher's p_bad from 0 to 1 for {len(samples)} samples, found {found}",
                action="compute the teacher's answers for the train samples of this dataset",
            )
