"""An ensemble as a teacher: who answers whom, the average by hand, and what it is measured on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jobs.finetune_zigong import finetune_zigong
from tests.support.finished import FinishedRun
from tests.support.later import copied_lake, later_run
from tests.support.studied import studied_setting, table_of
from zigong.errors import ConfigError, DataError
from zigong.evaluation.boosting_teacher import folds_of
from zigong.evaluation.ensemble import EnsembleTeacher, ensemble_teacher
from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.retraining import retrained_answers
from zigong.recipe import Recipe, load_recipe
from zigong.runs.handover import FinalModel
from zigong.runs.launch import run_step
from zigong.tokens.samples import Samples
from zigong.training.teacher import Teacher

DEMO = Path(__file__).resolve().parents[2] / "recipes" / "demo.yaml"
SEEDS, FOLDS, SHARE = 2, 2, 0.25


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> StudySetting:
    return studied_setting(tmp_path_factory.mktemp("ensemble"))


def recipe_of(setting: StudySetting, **changes: object) -> Recipe:
    known = {"seeds": SEEDS, "folds": FOLDS, "share": SHARE}
    finetune = setting.recipe.finetune.model_dump()
    finetune |= {"epochs": 1, "distil": {"weight": 0.5, "ensemble": {**known, **changes}}}
    return Recipe.model_validate({**setting.recipe.model_dump(), "finetune": finetune})


def teacher_of(setting: StudySetting, answered: int) -> Teacher:
    """Answers to the first samples; the others have a question without a teacher."""
    good, bad = setting.completions
    p_bad = np.random.default_rng(4).uniform(0.05, 0.95, answered)
    keys = setting.train.sample_id[:answered]
    return Teacher(p_bad=dict(zip(keys, p_bad.tolist(), strict=True)), choices=(bad.tolist(), good.tolist()))


def taught(setting: StudySetting, train: Samples, held_out: bool = False, **changes: object) -> EnsembleTeacher:
    asked = table_of(setting.held_out, "oot") if held_out else None
    teacher = teacher_of(setting, len(train) - 10)
    return ensemble_teacher(setting.base, recipe_of(setting, **changes), table_of(train), teacher, held_out=asked)


def logit(p: Floats) -> Floats:
    odds: Floats = np.log(p / (1 - p))
    return odds


def test_each_person_is_answered_by_the_trainings_without_it_averaged_in_log_odds(
    setting: StudySetting, tmp_path: Path
) -> None:
    train, teacher = setting.train, teacher_of(setting, len(setting.train) - 10)
    recipe, found = recipe_of(setting), taught(setting, train, held_out=True)
    fold = folds_of([f"p{user}" for user in train.user_id], FOLDS, recipe.seed)
    by_seed, of_held_out = np.zeros((SEEDS, len(train))), []
    for seed in range(SEEDS):
        for own in range(FOLDS):
            others = train.take(np.flatnonzero(fold != own))
            for asked, keep in ((train, True), (setting.held_out, False)):
                p_bad = retrained_answers(
                    setting.base,
                    recipe,
                    others,
                    asked,
                    completions=setting.completions,
                    seed=recipe.seed + 1 + seed,
                    folder=tmp_path / f"{seed}_{own}_{keep}",
                    teacher=teacher,
                )
                if keep:
                    by_seed[seed, fold == own] = p_bad[fold == own]
                else:
                    of_held_out.append(p_bad)
    mean = (logit(by_seed[0]) + logit(by_seed[1])) / 2
    assert list(found.teacher.p_bad) == list(teacher.p_bad)
    trees = np.array(list(teacher.p_bad.values()))
    expected = SHARE * mean[: len(trees)] + (1 - SHARE) * logit(trees)
    np.testing.assert_allclose(logit(np.array(list(found.teacher.p_bad.values()))), expected, atol=1e-4)
    label, size = setting.held_out.label, len(trees)
    assert found.figures == pytest.approx(
        {
            "train_auc": roc_auc_score(train.label[:size], mean[:size]),
            "teacher_auc": roc_auc_score(train.label[:size], expected),
            "oot_auc": roc_auc_score(label, np.mean([logit(p) for p in of_held_out], axis=0)),
            "oot_auc_of_one": np.mean([roc_auc_score(label, p) for p in of_held_out]),
        },
        abs=0.01,
    )


def test_the_labels_of_a_person_change_no_answer_about_it_unless_there_is_one_fold(setting: StudySetting) -> None:
    train, person = setting.train, setting.train.user_id[0]
    own = np.array([user == person for user in train.user_id])
    good, bad = setting.completions
    label = np.where(own, 1 - train.label, train.label)
    flipped = replace(train, label=label, completion_ids=tuple(bad if one else good for one in label))
    answered = own[: len(train) - 10]
    for folds, unchanged in ((2, True), (1, False)):
        before, after = (
            np.array(list(taught(setting, samples, seeds=1, folds=folds, share=1.0).teacher.p_bad.values()))
            for samples in (train, flipped)
        )
        assert np.array_equal(before[answered], after[answered]) == unchanged
        assert not np.array_equal(before[~answered], after[~answered])


def test_a_fold_without_persons_is_refused(setting: StudySetting) -> None:
    with pytest.raises(DataError, match="expected persons in each of 500 folds"):
        taught(setting, setting.train, folds=500)


def test_a_recipe_without_an_ensemble_has_the_digest_it_had_and_one_without_weight_is_refused() -> None:
    demo = load_recipe(DEMO)
    assert demo.finetune.distil.model_dump() == {"folds": 5, "weight": 0.7}
    assert load_recipe(DEMO, ["finetune.distil.ensemble=null"]).digest() == demo.digest()
    both = load_recipe(DEMO, ["finetune.distil={weight: 0.5, ensemble: {}}"])
    assert (both.finetune.distil.trainings, demo.finetune.distil.trainings) == (4, 1)
    assert both.digest() != load_recipe(DEMO, ["finetune.distil={weight: 0.5}"]).digest()
    with pytest.raises(ConfigError, match="ensemble needs weight above 0"):
        load_recipe(DEMO, ["finetune.distil={ensemble: {}}"])


@pytest.mark.soak
def test_a_run_is_taught_by_its_ensemble_and_measures_it(tiny_run: FinishedRun, tmp_path: Path) -> None:
    root = copied_lake(tiny_run, tmp_path / "lake")
    run = later_run(tiny_run, root, ["finetune.distil={weight: 0.5, ensemble: {seeds: 2, folds: 2}}"])
    shutil.rmtree(run.take(FinalModel).folder)
    done = run_step("finetune_zigong", finetune_zigong, run)
    assert (done.code, done.message) == (0, "")
    assert run.take(FinalModel).adapter_digest != tiny_run.run.take(FinalModel).adapter_digest
    figures = {name.removeprefix("finetune.ensemble."): value for name, value in run.metrics().items()}
    assert {"train_auc", "teacher_auc", "select_auc", "select_auc_of_one", "oot_auc", "oot_auc_of_one"} <= set(figures)
    assert all(0 <= figures[name] <= 1 for name in ("train_auc", "teacher_auc", "select_auc", "oot_auc"))
