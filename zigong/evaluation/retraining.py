"""The final model trained on given samples in this process, and its answers, which studies compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zigong.evaluation.answers import answer_samples
from zigong.recipe import Recipe
from zigong.tokens.samples import Samples, TokenIds
from zigong.training import trainer
from zigong.training.teacher import Teacher

Floats = NDArray[np.float64]


def retrained_answers(
    base: Path,
    recipe: Recipe,
    samples: Samples,
    held_out: Samples,
    *,
    completions: tuple[TokenIds, TokenIds],
    seed: int,
    folder: Path,
    epochs: int | None = None,
    weights: Floats | None = None,
    teacher: Teacher | None = None,
) -> Floats:
    """Trains the final model on samples and returns its probabilities of bad: [held out].

    Args:
        base: folder of the base model.
        recipe: its sections ``finetune`` and ``evaluation`` apply.
        samples: the samples to train on.
        held_out: the samples to answer.
        completions: token ids of the answers for good and bad.
        seed: seed of the training.
        folder: folder of the adapter, which must not exist.
        epochs: passes over the samples; None: those of the recipe.
        weights: weight of each sample's loss; shape [samples]; None: all weigh 1.
        teacher: what ``finetune.distil`` mixes with the labels; None: only the labels count.
    """
    retrain(base, recipe, samples, seed=seed, folder=folder, epochs=epochs, weights=weights, teacher=teacher)
    return np.asarray(adapter_answers(base, recipe, held_out, completions=completions, folder=folder)["p_bad"])


def retrain(
    base: Path,
    recipe: Recipe,
    samples: Samples,
    *,
    seed: int,
    folder: Path,
    epochs: int | None = None,
    weights: Floats | None = None,
    teacher: Teacher | None = None,
) -> None:
    """Trains the final model on samples; see :func:`retrained_answers`."""
    trainer.train_adapter(
        base,
        samples,
        recipe.finetune.model_copy(update={"epochs": epochs or recipe.finetune.epochs}),
        seed=seed,
        torch_threads=recipe.engine.torch_threads,
        folder=folder,
        teacher=teacher,
        weights=None if weights is None else dict(zip(samples.sample_id, weights.tolist(), strict=True)),
    )


def adapter_answers(
    base: Path,
    recipe: Recipe,
    asked: Samples,
    *,
    completions: tuple[TokenIds, TokenIds],
    folder: Path,
    states: bool = False,
) -> pa.Table:
    """The answers of an adapter to samples, in their order; see ``answers.answer_prompts``.

    Args:
        base: folder of the base model.
        recipe: its section ``evaluation`` applies.
        asked: the samples to answer.
        completions: token ids of the answers for good and bad.
        folder: folder of the adapter.
        states: whether to return the last hidden states, too.
    """
    good, bad = completions
    return answer_samples(
        base,
        folder,
        asked.sample_id,
        asked.input_ids,
        [bad.tolist(), good.tolist()],
        batch_tokens=recipe.evaluation.batch_tokens,
        torch_threads=recipe.engine.torch_threads,
        owners=asked.user_id if recipe.evaluation.engine == "trees" else None,
        states=states,
    )
