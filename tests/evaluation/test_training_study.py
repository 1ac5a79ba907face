"""The study of training: settings that are compared, seeds that are averaged, and a study that goes on after a stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tests.support.studied import studied_setting
from zigong.errors import ConfigError
from zigong.evaluation.calibration import averaged
from zigong.evaluation.influence_study.setting import StudySetting
from zigong.evaluation.training_study.figures import averaged_name, flat_figures, readable, study_table
from zigong.evaluation.training_study.trials import RECIPE, held_out_of, run_variants, variants_of
from zigong.evaluation.trial_store import trial_store
from zigong.training.teacher import Teacher

LESS = "finetune.epochs=1 finetune.learning_rate=0.0001"
TAUGHT = "finetune.distil.weight=1"
FIGURES = ("auc", "log_loss", "lead", "lead_high")


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> StudySetting:
    return studied_setting(tmp_path_factory.mktemp("study"))


def teacher_of_opposites(setting: StudySetting) -> Teacher:
    """A teacher that is always wrong."""
    train, (good, bad) = setting.train, setting.completions
    p_bad = dict(zip(train.sample_id, np.where(train.label == 1, 0.0, 1.0).tolist(), strict=True))
    return Teacher(p_bad=p_bad, choices=(bad.tolist(), good.tolist()))


def test_changes_are_limited_to_the_training(setting: StudySetting) -> None:
    found = variants_of(setting.recipe, [LESS, TAUGHT, LESS])
    assert [variant.name for variant in found] == [RECIPE, LESS, TAUGHT]
    assert found[1].recipe.finetune.epochs == 1
    assert found[1].recipe.finetune.batch_size == setting.recipe.finetune.batch_size
    assert len({variant.key(1) for variant in found}) == 3
    with pytest.raises(ConfigError, match="not of section finetune"):
        variants_of(setting.recipe, ["mix.fraction=0.9"])
    with pytest.raises(ConfigError, match="another teacher"):
        variants_of(setting.recipe, ["finetune.distil.folds=7"])
    with pytest.raises(ConfigError, match="epoch"):
        variants_of(setting.recipe, ["finetune.epoch=7"])


def test_seeds_are_averaged_in_log_odds() -> None:
    mean = averaged([np.array([0.5, 0.9]), np.array([0.8, 0.9])])
    assert mean.tolist() == pytest.approx([2 / 3, 0.9])  # odds 1 and 4: their geometric mean is 2


def test_a_study_compares_settings_with_the_recipe_and_goes_on(setting: StudySetting, tmp_path: Path) -> None:
    variants, seen = variants_of(setting.recipe, [LESS, TAUGHT]), list[int]()
    store, teacher = trial_store(setting, tmp_path / "study", ("evaluation",)), teacher_of_opposites(setting)

    def stop_after_two(done: int, _: int) -> None:
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_variants(setting, variants, store, seeds=(1, 2), teacher=teacher, advance=stop_after_two)
    kept = {file: file.stat().st_mtime_ns for file in store.folder.glob("*.parquet")}
    answered = run_variants(setting, variants, store, seeds=(1, 2), teacher=teacher, advance=lambda *_: None)
    assert len(kept) == 2
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    table = study_table(held_out_of(setting), answered, choose_on="select", resamples=50, confidence=0.95, seed=1)
    by_name = table[table["split"] == "oot"].set_index("settings")
    oot = {name: {figure: float(by_name[figure][name]) for figure in FIGURES} for name in by_name.index}
    labels = setting.held_out.label[30:]
    by_hand = [float(roc_auc_score(labels, p[30:])) for p in answered[RECIPE]]
    assert oot[RECIPE]["auc"] == pytest.approx(np.mean(by_hand))
    assert oot[RECIPE]["log_loss"] == pytest.approx(np.mean([log_loss(labels, p[30:]) for p in answered[RECIPE]]))
    assert oot[averaged_name(RECIPE)]["auc"] == pytest.approx(roc_auc_score(labels, averaged(answered[RECIPE])[30:]))
    assert oot[TAUGHT]["auc"] < 0.5 < oot[RECIPE]["auc"]  # the teacher is always wrong, and nothing else counts
    assert oot[TAUGHT]["lead_high"] < 0
    assert oot[RECIPE]["lead"] == 0
    chosen = set(table[table["chosen"]]["settings"])
    assert chosen <= {RECIPE, LESS}
    assert len(readable(table)) == len(table) == 8
    assert flat_figures(table, "training.")[f"training.oot.auc.{LESS}"] == oot[LESS]["auc"]
