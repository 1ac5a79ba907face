"""The influence study on samples whose label an agent can learn: detection of flips, and contents of the arms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.studied import TRAIN, studied_setting
from tests.support.tiny_models import make_samples
from zigong.errors import DataError
from zigong.evaluation.influence_study.mislabels import mislabel_detection
from zigong.evaluation.influence_study.retraining import ARMS
from zigong.evaluation.influence_study.setting import Sizes, StudySetting
from zigong.evaluation.influence_study.study import flat_figures, influence_study

SIZES = Sizes(seeds=1, subsets=4)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> StudySetting:
    return studied_setting(tmp_path_factory.mktemp("study"))


def test_flipped_labels_are_detected_by_loss_and_by_score_but_not_by_chance(setting: StudySetting) -> None:
    found = mislabel_detection(setting, SIZES, seed=11).set_index("detector")["auc"]
    assert found["loss"] > 0.75
    assert found["tracseq"] > 0.6
    assert abs(found["random"] - 0.5) < 0.2


def test_every_part_has_its_rows_and_figures(setting: StudySetting) -> None:
    reached: list[tuple[int, int]] = []
    tables = influence_study(setting, SIZES, seed=5, advance=lambda *progress: reached.append(progress[:2]))
    assert reached[-1] == (len(reached), len(reached)) == (1 + 4 + len(ARMS), 1 + 4 + len(ARMS))
    retraining = tables["study_retraining"].set_index("arm")
    assert list(retraining.index) == list(ARMS)
    bad = int(setting.train.label.sum())
    assert set(retraining["samples"]) == {round(0.4 * bad) + round(0.4 * (150 - bad))}
    assert (retraining["low"] <= retraining["auc"]).all()
    assert (retraining["auc"] <= retraining["high"]).all()
    assert retraining.loc["random", "lead_over_random"] == 0
    datamodel = tables["study_datamodel"]
    assert len(datamodel) == 9
    assert datamodel["correlation"].between(-1, 1).all()
    figures = flat_figures(tables)
    assert figures["study.retrained_auc.random"] == retraining.loc["random", "auc"]
    assert {"study.mislabel_auc.tracseq", "study.lds.all.tracseq", "study.lds.bad.loss"} <= figures.keys()


def test_a_question_with_several_answers_for_one_label_is_rejected(setting: StudySetting) -> None:
    several = make_samples(40, dates=TRAIN)
    with pytest.raises(DataError, match="answers among the train samples"):
        _ = replace(setting, train=several).completions
