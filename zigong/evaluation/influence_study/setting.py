"""Input of all parts of the study: the samples of a finished run, and their training, scoring and answering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from zigong.dataset.samples import SampleSource, capped, of_task
from zigong.errors import DataError
from zigong.evaluation.retraining import retrained_answers
from zigong.influence.capture import open_agent
from zigong.influence.score import score_samples
from zigong.influence.target_sums import target_gradients
from zigong.recipe import Recipe
from zigong.tokens.losses import sample_losses
from zigong.tokens.samples import (
    Indices,
    Samples,
    TokenIds,
    batch_of,
    sample_lengths,
    token_budget_batches,
    trainable,
)
from zigong.training import trainer
from zigong.training.adapters import load_merged
from zigong.training.checkpoints import read_checkpoints
from zigong.training.pretrained import end_ids

Floats = NDArray[np.float64]
GOOD, BAD = 0, 1


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Largest numbers of samples; complete users are chosen by hash.

    Attributes:
        samples: of the pool.
        targets: of the targets; 0: none is read.
        held_out: of each held-out split; None: all.
    """

    samples: int
    targets: int
    held_out: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the study.

    Attributes:
        seeds: repetitions of flips, agents and retrainings.
        subsets: number of halves of the datamodel.
        flipped: share of the labels that are flipped.
    """

    seeds: int
    subsets: int
    flipped: float = 0.1


@dataclass(frozen=True, kw_only=True)
class StudySetting:
    """Samples of the main task of one finished run.

    Attributes:
        base: folder of the base model.
        recipe: recipe of the run; its sections ``agent``, ``influence`` and ``finetune`` apply unchanged.
        train: the pool.
        targets: samples on whose loss influence is measured.
        held_out: samples that retrained models answer.
        splits: split of each held-out sample.
        persons: split unit of each held-out sample.
        scratch: folder for adapters.
    """

    base: Path
    recipe: Recipe
    train: Samples
    targets: Samples
    held_out: Samples
    splits: tuple[str, ...]
    persons: tuple[str, ...]
    scratch: Path

    @cached_property
    def completions(self) -> tuple[TokenIds, TokenIds]:
        """The answers for good and bad.

        Raises:
            DataError: a label has not exactly one answer.
        """
        found = []
        for label in (GOOD, BAD):
            texts = {tuple(self.train.completion_ids[i].tolist()) for i in np.flatnonzero(self.train.label == label)}
            if len(texts) != 1:
                raise DataError(
                    f"label {label} has {len(texts)} answers among the train samples, expected one",
                    action="study a run whose pool contains both labels of a question with two choices",
                )
            found.append(np.array(texts.pop(), dtype=np.int32))
        return found[GOOD], found[BAD]

    def relabelled(self, flipped: Indices) -> Samples:
        """The pool with some labels and their answers flipped."""
        label = self.train.label.copy()
        label[flipped] = 1 - label[flipped]
        answers = [self.completions[value] for value in label]
        return replace(self.train, label=label, completion_ids=tuple(answers))

    def agent(self, samples: Samples, *, seed: int, name: str) -> Path:
        """Trains an agent and returns its folder."""
        folder = self.scratch / name
        threads = self.recipe.engine.torch_threads
        trainer.train_agent(
            self.base, samples, self.recipe.agent, seed=seed, torch_threads=threads, folder=folder, data={}
        )
        return folder

    def scores(self, samples: Samples, agent_folder: Path, targets: Samples) -> pd.DataFrame:
        """Columns ``score`` and ``loss`` of samples; both are NaN for a sample without a score."""
        settings = self.recipe.influence
        agent = open_agent(self.base, read_checkpoints(agent_folder), torch_threads=self.recipe.engine.torch_threads)
        gradients = target_gradients(agent, targets, settings, business_timezone=self.recipe.business_timezone)
        table = score_samples(agent, gradients, samples, settings)
        return pd.DataFrame({name: table[name].to_numpy().astype(float) for name in ("score", "loss")})

    def target_losses(self, agent_folder: Path) -> Floats:
        """Loss of every target under the last checkpoint of an agent."""
        manifest = read_checkpoints(agent_folder)
        adapter = agent_folder / manifest.checkpoints[-1].adapter
        model = load_merged(self.base, adapter)
        known = trainable(
            self.targets,
            ends=end_ids(model.config),
            count_eos=manifest.count_eos,
            context_length=manifest.context_length,
        )
        losses = np.zeros(len(known))
        with torch.inference_mode():
            for indices in token_budget_batches(sample_lengths(known), self.recipe.evaluation.batch_tokens):
                losses[indices] = sample_losses(model, batch_of(known, indices)).numpy()
        return losses

    def retrained(
        self, samples: Samples, *, seed: int, name: str, epochs: int | None = None, weights: Floats | None = None
    ) -> Floats:
        """Trains the final model on samples and returns its probabilities of bad for the held-out samples.

        The samples have no teacher, whatever ``finetune.distil`` says.

        Args:
            samples: the samples to train on.
            seed: seed of the training.
            name: name of the adapter's folder.
            epochs: passes over the samples; None: those of the recipe.
            weights: weight of each sample's loss; shape [samples]; None: all weigh 1.
        """
        return retrained_answers(
            self.base,
            self.recipe,
            samples,
            self.held_out,
            completions=self.completions,
            seed=seed,
            folder=self.scratch / name,
            epochs=epochs,
            weights=weights,
        )


def study_setting(
    source: SampleSource,
    recipe: Recipe,
    *,
    task: str,
    held_out: Sequence[str],
    base: Path,
    caps: Caps,
    scratch: Path,
) -> StudySetting:
    """Reads the samples.

    Args:
        source: dataset of the run.
        recipe: recipe of the run.
        task: task of the samples.
        held_out: splits that retrained models answer.
        base: folder of the base model.
        caps: largest numbers of samples.
        scratch: an existing folder.
    """

    def of(split: str, most: int | None) -> pa.Table:
        members = of_task(source.members([split]), task)
        chosen = members if most is None else capped(members, most) if most else members.slice(0, 0)
        return source.with_prompts(chosen)

    answered = pa.concat_tables([of(split, caps.held_out) for split in held_out])
    return StudySetting(
        base=base,
        recipe=recipe,
        train=Samples.from_arrow(of("train", caps.samples)),
        targets=Samples.from_arrow(of("target", caps.targets)),
        held_out=Samples.from_arrow(answered),
        splits=tuple(answered["split"].to_pylist()),
        persons=tuple(answered[recipe.split.unit].to_pylist()),
        scratch=scratch,
    )
