"""An ensemble of the final model as its second teacher: several seeds, answers out of fold by person, in log-odds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from zigong.errors import ConfigError
from zigong.evaluation.boosting_teacher import folds_of, require_folds
from zigong.evaluation.calibration import averaged
from zigong.evaluation.metrics import auc
from zigong.evaluation.retraining import Floats, retrained_answers
from zigong.recipe import Recipe
from zigong.tokens.samples import Samples
from zigong.training.teacher import Teacher

Advance = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class EnsembleTeacher:
    """What an ensemble teaches, together with the trees, and how well it answers itself.

    Attributes:
        teacher: the mean of both teachers in log-odds, for the samples that the ensemble answered.
        figures: AUC by name: ``train_auc`` of the ensemble's answers to train samples, ``teacher_auc`` of both
            teachers, ``SPLIT_auc`` of the ensemble on a held-out split and ``SPLIT_auc_of_one`` of one training on
            average.
    """

    teacher: Teacher
    figures: dict[str, float]


def taught_by(
    base: Path,
    recipe: Recipe,
    train: pa.Table,
    teacher: Teacher | None,
    *,
    held_out: pa.Table | None = None,
    advance: Advance = lambda *_: None,
) -> tuple[Teacher | None, dict[str, float]]:
    """The teacher of a training: with the answers of an ensemble if the recipe has one; and its figures.

    See :func:`ensemble_teacher`.
    """
    if teacher is None or recipe.finetune.distil.ensemble is None:
        return teacher, {}
    found = ensemble_teacher(base, recipe, train, teacher, held_out=held_out, advance=advance)
    return found.teacher, {f"ensemble.{name}": value for name, value in found.figures.items()}


def ensemble_teacher(
    base: Path,
    recipe: Recipe,
    train: pa.Table,
    teacher: Teacher,
    *,
    held_out: pa.Table | None = None,
    advance: Advance = lambda *_: None,
) -> EnsembleTeacher:
    """Trains the ensemble of ``finetune.distil.ensemble`` and adds its answers to those of a teacher.

    The persons are divided into ``folds`` by hash. Each seed trains one adapter per fold, without the persons of this
    fold, and it answers their samples: none is answered by a training that had a sample of its person.

    Args:
        base: folder of the base model.
        recipe: its sections ``finetune`` and ``evaluation`` apply; ``seed`` is the seed of the served adapter, and
            those of the ensemble follow it.
        train: members with ``input_ids``, on which the served adapter is trained.
        teacher: the trees' answers; the ensemble learns from them, and answers the samples that they answered.
        held_out: members with ``input_ids`` that the ensemble is measured on; None: it is not.
        advance: called with the finished trainings, their number and a note.

    Raises:
        ConfigError: the recipe has no ensemble.
        DataError: a fold has all persons or none.
    """
    settings = recipe.finetune.distil.ensemble
    if settings is None:
        raise ConfigError("the recipe has no ensemble", action="set finetune.distil.ensemble: {}")
    fold = folds_of(train["person_id"].to_pylist(), settings.folds, recipe.seed)
    require_folds(fold, settings.folds, "finetune.distil.ensemble")
    taught = np.array([key in teacher.p_bad for key in train["sample_id"].to_pylist()])
    answers, of_held_out = np.full((settings.seeds, len(train)), np.nan), list[Floats]()
    total = settings.seeds * settings.folds
    for number in range(total):
        seed, own = divmod(number, settings.folds)
        advance(number, total, "trainings of the ensemble")
        asked = taught & (fold == own)
        learned = train if settings.folds == 1 else train.filter(fold != own)
        p_bad = _answers(base, recipe, learned, _joined(train.filter(asked), held_out), teacher, recipe.seed + 1 + seed)
        answers[seed, asked] = p_bad[: int(asked.sum())]
        of_held_out.append(p_bad[int(asked.sum()) :])
    own_answers = averaged(list(answers[:, taught]))
    of_trees = np.array([teacher.p_bad[key] for key in train.filter(taught)["sample_id"].to_pylist()])
    both = averaged([own_answers, of_trees], [settings.share, 1 - settings.share])
    label = train.filter(taught)["label"]
    known = label.is_valid().to_numpy()
    measured = {"train_auc": own_answers, "teacher_auc": both}
    figures = {name: auc(label.drop_null().to_numpy(), p_bad[known]) for name, p_bad in measured.items()}
    if held_out is not None:
        figures |= _held_out_figures(held_out, of_held_out)
    keys = train.filter(taught)["sample_id"].to_pylist()
    taught_answers = dict(zip(keys, both.tolist(), strict=True))
    return EnsembleTeacher(teacher=replace(teacher, p_bad=taught_answers), figures=figures)


def _joined(asked: pa.Table, held_out: pa.Table | None) -> Samples:
    return Samples.from_arrow(asked if held_out is None else pa.concat_tables([asked, held_out]))


def _answers(base: Path, recipe: Recipe, learned: pa.Table, asked: Samples, teacher: Teacher, seed: int) -> Floats:
    """p_bad of the asked samples after one training: [asked]."""
    bad, good = (np.array(choice, dtype=np.int32) for choice in teacher.choices)
    with TemporaryDirectory(prefix="zigong-ensemble-") as scratch:
        return retrained_answers(
            base,
            recipe,
            Samples.from_arrow(learned),
            asked,
            completions=(good, bad),
            seed=seed,
            folder=Path(scratch, "adapter"),
            teacher=teacher,
        )


def _held_out_figures(held_out: pa.Table, answers: list[Floats]) -> dict[str, float]:
    """AUC of the averaged answers and of one training on each split that has both classes."""
    splits, labels = np.array(held_out["split"].to_pylist()), held_out["label"].to_numpy()
    figures: dict[str, float] = {}
    for split in dict.fromkeys(splits.tolist()):
        here = splits == split
        if len(set(labels[here].tolist())) == 2:
            figures[f"{split}_auc"] = auc(labels[here], averaged(answers)[here])
            figures[f"{split}_auc_of_one"] = float(np.mean([auc(labels[here], one[here]) for one in answers]))
    return figures
