"""LightGBM as the teacher of the language model: its answers to train samples of persons that it was not fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from zigong.dataset.samples import UNLABELLED, of_task
from zigong.errors import DataError
from zigong.evaluation.baselines import bad_members, features_of_members
from zigong.evaluation.boosting import Labelled, boosted_trees
from zigong.evaluation.feature_space import feature_space
from zigong.evaluation.metrics import auc
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks, main_task
from zigong.recipe import Recipe
from zigong.runs.job import Job
from zigong.training.teacher import Teacher

STOPPING_FOLDS = 10  # where no split is left, one of them chooses the number of trees
Persons = Callable[[Sequence[str]], NDArray[np.bool_]]  # which of some persons belong to a set


def teacher_of(
    job: Job, base: Path, splits: Sequence[str], *, without: Persons | None = None
) -> tuple[Teacher | None, dict[str, float]]:
    """The teacher that ``finetune.distil`` asks for, and its figures: none with weight 0.

    It answers every member of the main question, not only those of the mix: with more samples it is better. Those of
    the split ``unlabelled`` are answered, too, if the recipe trains on them.

    Args:
        job: the job that reads the tables.
        base: folder of the base model, whose tokenizer encodes the choices.
        splits: the splits whose members it learns from and answers.
        without: persons that it neither learns from nor answers; None: there are none.

    Raises:
        DataError: the samples that a fold's trees are fitted on have only one class.
    """
    recipe = job.recipe
    if not recipe.finetune.distil.weight:
        return None, {}
    members = of_task(job.sample_source().members(answered_splits(recipe, splits)), main_task(recipe))
    members = members_without(members, without)
    train = Labelled(features=features_of_members(job, members), bad=bad_members(members))
    known, persons = members["label"].is_valid().to_numpy(), members["person_id"].to_pylist()
    p_bad = out_of_fold(train, persons, folds=recipe.finetune.distil.folds, seed=recipe.seed, known=known)
    encoder = LineEncoder.of(base)
    bad, good = (encoder.completion(choice) for choice in load_tasks(recipe.instructions).main.choices)
    answers = dict(zip(members["sample_id"].to_pylist(), p_bad.tolist(), strict=True))
    figures = {"teacher_auc": auc(train.bad[known].astype(np.int64), p_bad[known])}
    return Teacher(p_bad=answers, choices=(bad, good)), figures


def members_without(members: pa.Table, persons: Persons | None) -> pa.Table:
    """The members of all other persons; None: all members."""
    return members if persons is None else members.filter(~persons(members["person_id"].to_pylist()))


def answered_splits(recipe: Recipe, splits: Sequence[str]) -> list[str]:
    """The splits, and that of the points without a label if the recipe trains on them."""
    return [*splits, *([UNLABELLED] if recipe.finetune.distil.unlabelled else [])]


def out_of_fold(
    train: Labelled, persons: Sequence[str], *, folds: int, seed: int, known: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """p_bad of each sample by LightGBM that saw no sample of its person, neither to fit nor to stop.

    Each fold is answered by trees that are fitted on the other folds but one, which chooses their number.

    Args:
        train: the samples.
        persons: [samples] person of each one; all samples of a person are in one fold, by hash.
        folds: number of folds, at least 3.
        seed: seed of folds and trees.
        known: [samples] whether the label is known; the others are answered alone. None: all are.

    Returns:
        Shape [samples].

    Raises:
        DataError: the samples that a fold's trees are fitted on have only one class.
    """
    fold = folds_of(persons, folds, seed)
    p_bad, every = np.full(len(fold), np.nan), list(train.features.columns)
    has_label = np.ones(len(fold), dtype=bool) if known is None else known
    for own in np.unique(fold):
        stops = fold == (own + 1) % folds
        fitted, stop = _part(train, has_label & ~stops & (fold != own)), _part(train, has_label & stops)
        if not fitted.has_both_classes:
            raise DataError(
                f"finetune.distil: expected both classes outside of each fold, found {int(fitted.bad.sum())} bad of "
                f"{len(fitted.bad)} train samples",
                action="give the recipe more train samples, or set finetune.distil.weight: 0",
            )
        predict = boosted_trees(fitted, stop, feature_space(fitted.features, every), seed=seed)
        p_bad[fold == own] = predict(train.features[fold == own])
    return p_bad


def folds_of(persons: Sequence[str], folds: int, seed: int, *, name: str = "fold") -> NDArray[np.int64]:
    """The fold of each person, by hash; shape [samples]. Divisions of different names are independent."""
    drawn = (hashlib.sha256(f"{name}|{seed}|{person}".encode()).digest() for person in persons)
    return np.array([int.from_bytes(digest[:8]) % folds for digest in drawn], dtype=np.int64)


def require_folds(fold: NDArray[np.int64], folds: int, section: str) -> None:
    """Requires samples in each fold.

    Args:
        fold: fold of each sample; shape [samples].
        folds: number of folds.
        section: the section of the recipe with the key ``folds``.

    Raises:
        DataError: a fold has no sample.
    """
    sizes = np.bincount(fold, minlength=folds)
    if not sizes.all():
        raise DataError(
            f"{section}: expected persons in each of {folds} folds, found {sizes.tolist()} samples",
            action=f"lower {section}.folds, or give the recipe more train persons",
        )


def _part(train: Labelled, chosen: NDArray[np.bool_]) -> Labelled:
    features: pd.DataFrame = train.features[chosen]
    return Labelled(features=features, bad=train.bad[chosen])
