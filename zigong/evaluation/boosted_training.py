"""The fitting of a boosted card on a worker: the final model's training again without each fold, then LightGBM.

A language model that was trained on a sample repeats its label to some degree, in its states as well. Trees that read
such answers on train trust them too much, so each train sample is answered by a training without its person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from zigong.dataset.samples import SampleSource
from zigong.errors import ConfigError, DataError
from zigong.evaluation.baselines import SEEDS, TREES_OF_A_CARD, bad_members, columns_of_trees
from zigong.evaluation.boosting import BoostedTrees, Labelled, boosted_trees
from zigong.evaluation.boosting_teacher import folds_of, require_folds
from zigong.evaluation.ensemble import Advance, taught_by
from zigong.evaluation.feature_space import feature_space
from zigong.evaluation.metrics import auc, log_loss
from zigong.evaluation.readout import SPARE, Floats, Readout, agreement, with_readout
from zigong.evaluation.retraining import adapter_answers, retrain
from zigong.recipe import BoostedTraining, Recipe
from zigong.tokens.samples import Samples, TokenIds
from zigong.training.teacher import Teacher

SECTION = "card.boosted"


@dataclass(frozen=True, kw_only=True, eq=False)
class BoostedInputs:
    """What a boosted card is fitted on, beside the final model and its samples.

    Attributes:
        folder: folder of its files.
        train: members of the main question whose labels the trees are fitted on; [N].
        held_out: such members that neither trees nor language model are fitted on; they scale and translate what the
            language models say, and choose the number of trees; [M].
        features: baseline features of both, in this order; [N + M] rows.
        teachers: teacher of the training without each fold, which knows no person of the fold.
        completions: token ids of the answers for good and bad.
        trees: names of baselines whose features are tried.
    """

    folder: Path
    train: pa.Table
    held_out: pa.Table
    features: pd.DataFrame
    teachers: Sequence[Teacher | None]
    completions: tuple[TokenIds, TokenIds]
    trees: Sequence[str] = TREES_OF_A_CARD


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """What language models say of train members that they did not see.

    Attributes:
        told: in the terms of the served model's readout; shape [members, 1 + K].
        agreement: mean correlation of each number with the served model's, on held-out members; shape [1 + K].
    """

    told: Floats
    agreement: Floats


def card_folds(persons: Sequence[str], recipe: Recipe) -> NDArray[np.int64]:
    """The fold of each person of a boosted card, which is none of the teachers' folds; shape [samples]."""
    return folds_of(persons, boosted_section(recipe).folds, recipe.seed, name=SECTION)


def boosted_section(recipe: Recipe) -> BoostedTraining:
    """The section ``card.boosted``.

    Raises:
        ConfigError: the recipe has none.
    """
    if recipe.card.boosted is None:
        raise ConfigError("the recipe has no section card.boosted", action="add card.boosted: {} to the recipe")
    return recipe.card.boosted


def fit_boosted(
    base: Path,
    recipe: Recipe,
    learned: pa.Table,
    adapter: Path,
    inputs: BoostedInputs,
    source: SampleSource,
    *,
    advance: Advance = lambda *_: None,
) -> tuple[str, dict[str, float]]:
    """Fits the trees of a boosted card and saves them with the readout of its language model.

    Args:
        base: folder of the base model.
        recipe: its sections ``finetune``, ``evaluation`` and ``card`` apply.
        learned: the members with ``input_ids`` that the final model was trained on.
        adapter: folder of its adapter.
        inputs: what else the card is fitted on.
        source: the prompts of the members.
        advance: called with the finished trainings, their number and a note.

    Returns:
        The name of the baseline whose features the trees read, and figures: AUC of what the trainings without a fold
        say of its members, and how well they agree with the served model.

    Raises:
        DataError: a fold has no person, one class is missing, or the states have too few directions.
    """
    train, held_out = (source.with_prompts(members) for members in (inputs.train, inputs.held_out))
    answers = adapter_answers(
        base, recipe, Samples.from_arrow(held_out), completions=inputs.completions, folder=adapter, states=True
    )
    served = Readout.fitted(answers, boosted_section(recipe).components)
    told = served.of(answers)
    found = out_of_fold_readout(base, recipe, learned, train, held_out, told, inputs, advance=advance)
    of_train, of_held_out = inputs.features.iloc[: len(train)], inputs.features.iloc[len(train) :]
    name, trees = fit_trees(
        Labelled(features=with_readout(of_train, found.told), bad=bad_members(train)),
        Labelled(features=with_readout(of_held_out, told), bad=bad_members(held_out)),
        inputs.trees,
        seed=recipe.seed,
    )
    inputs.folder.mkdir(parents=True, exist_ok=True)
    trees.save(inputs.folder)
    served.save(inputs.folder)
    return name, {
        "out_of_fold_auc": auc(train["label"].to_numpy(), found.told[:, 0]),
        "agreement_of_log_odds": float(found.agreement[0]),
        **{f"agreement_of_component_{number}": float(r) for number, r in enumerate(found.agreement[1:], start=1)},
    }


def out_of_fold_readout(
    base: Path,
    recipe: Recipe,
    learned: pa.Table,
    asked: pa.Table,
    held_out: pa.Table,
    told: Floats,
    inputs: BoostedInputs,
    *,
    advance: Advance = lambda *_: None,
) -> OutOfFold:
    """Repeats the final model's training without each fold of persons, and lets it answer this fold.

    Args:
        base: folder of the base model.
        recipe: recipe of the final model, with its seed.
        learned: members with ``input_ids`` that the final model was trained on.
        asked: members with ``input_ids`` to answer; shape [N].
        held_out: members with ``input_ids`` that no model was trained on; shape [M].
        told: what the served model's readout says of these; shape [M, 1 + K].
        inputs: the teachers, and the tokens of the answers.
        advance: called with the finished trainings, their number and a note.

    Raises:
        DataError: a fold has no person.
    """
    fold, fold_of_learned = (card_folds(rows["person_id"].to_pylist(), recipe) for rows in (asked, learned))
    folds, components = boosted_section(recipe).folds, told.shape[1] - 1
    for divided in (fold, fold_of_learned):
        require_folds(divided, folds, SECTION)
    found, correlations = np.full((len(asked), 1 + components), np.nan), []
    for own in range(folds):
        advance(own, folds, "trainings without a fold of the boosted card")
        answers = _answers_without(
            base,
            recipe,
            learned.filter(fold_of_learned != own),
            pa.concat_tables([asked.filter(fold == own), held_out.select(asked.column_names)]),
            inputs.teachers[own],
            inputs.completions,
        )
        of_fold = int((fold == own).sum())
        of_held_out = answers.slice(of_fold)
        readout = Readout.fitted(of_held_out, components, spare=SPARE * components)
        readout = readout.translated(readout.of(of_held_out), told)
        found[fold == own] = readout.of(answers.slice(0, of_fold))
        correlations.append(agreement(readout.of(of_held_out), told))
    return OutOfFold(told=found, agreement=np.mean(correlations, axis=0))


def _answers_without(
    base: Path,
    recipe: Recipe,
    learned: pa.Table,
    asked: pa.Table,
    teacher: Teacher | None,
    completions: tuple[TokenIds, TokenIds],
) -> pa.Table:
    """Answers with states, in the order of the asked members, of a training on the learned ones."""
    taught, _ = taught_by(base, recipe, learned, teacher)
    with TemporaryDirectory(prefix="zigong-boosted-") as scratch:
        folder = Path(scratch, "adapter")
        retrain(base, recipe, Samples.from_arrow(learned), seed=recipe.seed, folder=folder, teacher=taught)
        samples = Samples.from_arrow(asked)
        return adapter_answers(base, recipe, samples, completions=completions, folder=folder, states=True)


def fit_trees(train: Labelled, stop: Labelled, names: Sequence[str], *, seed: int) -> tuple[str, BoostedTrees]:
    """LightGBM on the columns of one of some baselines and on those of a readout.

    Args:
        train: features with a readout that it is fitted on.
        stop: those that choose the number of trees, and the baseline by the smallest log-loss.
        names: names of baselines.
        seed: seed of the trees.

    Raises:
        DataError: one class is missing.
    """
    if not (train.has_both_classes and stop.has_both_classes):
        raise DataError(
            f"card.boosted: expected both classes, found {int(train.bad.sum())} bad of {len(train.bad)} train samples "
            f"and {int(stop.bad.sum())} of {len(stop.bad)} held-out ones",
            action="give the recipe more samples, or choose another card.head",
        )
    columns = columns_of_trees(list(train.features.columns))
    fitted = {
        name: boosted_trees(train, stop, feature_space(train.features, columns[name]), seed=seed, seeds=SEEDS)
        for name in names
    }
    label = stop.bad.astype(np.int64)
    name = min(names, key=lambda name: log_loss(label, fitted[name](stop.features)))
    return name, fitted[name]
