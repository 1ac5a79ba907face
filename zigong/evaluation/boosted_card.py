"""The boosted card of a run: what it is fitted on, and the value that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zigong.dataset.samples import of_task
from zigong.evaluation.baselines import STOPPED_ON, TREES_OF_A_CARD, features_of_members
from zigong.evaluation.boosted import BOOSTED_FILES, Boosted
from zigong.evaluation.boosted_training import SECTION, BoostedInputs, boosted_section, card_folds
from zigong.evaluation.boosting_teacher import STOPPING_FOLDS, Persons, folds_of, members_without, teacher_of
from zigong.evaluation.fusion import card_name
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks, main_task
from zigong.recipe import Recipe
from zigong.recipe.source import source_mapping
from zigong.runs.card_values import BoostedCard
from zigong.runs.job import Job
from zigong.training.adapters import model_name
from zigong.training.file_digests import FileDigests
from zigong.training.teacher import Teacher


def boosted_beside(job: Job, base: Path) -> BoostedInputs | None:
    """What the boosted card is fitted on that ``card.boosted`` asks for beside the final model; None if it does not.

    Args:
        job: the job that trains the final model.
        base: folder of the base model, whose tokenizer encodes the choices.
    """
    if job.recipe.card.boosted is None:
        return None
    source, task, folder = job.sample_source(), main_task(job.recipe), job.artefact_folder(BoostedCard)
    train, held_out = (of_task(source.members([split]), task) for split in ("train", STOPPED_ON))
    return _inputs(job, base, folder, train, held_out, ["train"], trees=TREES_OF_A_CARD)


def refit_inputs(job: Job, base: Path, folder: Path, splits: Sequence[str]) -> BoostedInputs:
    """What the boosted card of a run is fitted on when it is refitted; the persons apart are held out.

    Args:
        job: the job that refits it.
        base: folder of the base model.
        folder: folder of the new files.
        splits: the splits to fit on.
    """
    apart = persons_apart(job.recipe)
    members = of_task(job.sample_source().members(splits), main_task(job.recipe))
    held_out = members.filter(apart(members["person_id"].to_pylist()))
    trees = (job.take(BoostedCard).trees,)
    return _inputs(job, base, folder, members_without(members, apart), held_out, splits, trees=trees, apart=apart)


def persons_apart(recipe: Recipe) -> Persons:
    """The persons that a refit holds out where no split is left to: one of ``STOPPING_FOLDS`` folds."""
    return lambda persons: folds_of(persons, STOPPING_FOLDS, recipe.seed, name=f"{SECTION}.apart") == 0


def _inputs(
    job: Job,
    base: Path,
    folder: Path,
    train: pa.Table,
    held_out: pa.Table,
    splits: Sequence[str],
    *,
    trees: Sequence[str],
    apart: Persons | None = None,
) -> BoostedInputs:
    encoder = LineEncoder.of(base)
    choices = load_tasks(job.recipe.instructions).main.choices
    bad, good = (np.array(encoder.completion(choice), dtype=np.int32) for choice in choices)
    return BoostedInputs(
        folder=folder,
        train=train,
        held_out=held_out,
        features=features_of_members(job, pa.concat_tables([train, held_out])),
        teachers=_teachers(job, base, splits, apart),
        completions=(good, bad),
        trees=trees,
    )


def _teachers(job: Job, base: Path, splits: Sequence[str], apart: Persons | None) -> list[Teacher | None]:
    """The teacher of the training without each fold, which is fitted without it, too."""
    recipe = job.recipe

    def without(own: int) -> Persons:
        def outside(persons: Sequence[str]) -> NDArray[np.bool_]:
            fold: NDArray[np.bool_] = card_folds(persons, recipe) == own
            return fold if apart is None else fold | apart(persons)

        return outside

    return [teacher_of(job, base, splits, without=without(own))[0] for own in range(boosted_section(recipe).folds)]


def leave_boosted(job: Job, adapter_digest: str, trees: str) -> None:
    """Leaves the boosted card that was fitted in its folder.

    Args:
        job: the job that fitted it.
        adapter_digest: digest of the adapter of its language model.
        trees: name of the baseline whose features its trees read.
    """
    folder, outcomes = job.artefact_folder(BoostedCard), tuple(source_mapping(job.recipe).outcome_events)
    added = Boosted(boosted=FileDigests.of(folder, BOOSTED_FILES), outcome_events=outcomes)
    job.leave(
        BoostedCard(
            model_id=card_name(added, adapter_digest),
            language_model=model_name(adapter_digest),
            folder=folder,
            trees=trees,
            boosted_digest=added.boosted.digest,
            outcome_events=outcomes,
        )
    )
