"""A boosted card: trees on features and on what a language model says, which on train is said out of fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit
from scipy.stats import ortho_group
from sklearn.metrics import roc_auc_score

from tests.support.studied import studied_setting, table_of
from zigong.errors import DataError
from zigong.evaluation.answers import with_states
from zigong.evaluation.boosted import BOOSTED_FILES, Boosted
from zigong.evaluation.boosted_training import BoostedInputs, OutOfFold, card_folds, fit_trees, out_of_fold_readout
from zigong.evaluation.boosting import Labelled, boosted_trees
from zigong.evaluation.feature_space import feature_space
from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.readout import Readout, agreement, with_readout
from zigong.evaluation.retraining import adapter_answers, retrain
from zigong.recipe import Recipe
from zigong.tokens.samples import Samples
from zigong.training.file_digests import FileDigests

FOLDS, COMPONENTS = 2, 3
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> StudySetting:
    return studied_setting(tmp_path_factory.mktemp("boosted"))


def recipe_of(setting: StudySetting) -> Recipe:
    content = setting.recipe.model_dump()
    content["finetune"] |= {"epochs": 1}
    content["card"] = {"head": "boosted", "boosted": {"folds": FOLDS, "components": COMPONENTS}}
    return Recipe.model_validate(content)


def answers_of(states: Floats, p_bad: Floats | None = None) -> pa.Table:
    """Answers with states; without probabilities, those are of the first column of the states."""
    chosen = expit((states[:, 0] - 7) / 3) if p_bad is None else p_bad
    return with_states(pa.table({"p_bad": chosen}), states.astype(np.float32))


def drawn_states(size: int) -> Floats:
    """States in six directions of different widths around a centre."""
    states: Floats = RNG.normal(size=(size, 6)) * [5.0, 3.0, 2.0, 0.5, 0.2, 0.1] + 7
    return states


def test_a_readout_is_the_scaled_log_odds_and_principal_components() -> None:
    states = drawn_states(500)
    found = Readout.fitted(answers_of(states, expit(states[:, 5] - 7)), 3)
    told = found.of(answers_of(states, expit(states[:, 5] - 7)))
    odds = states[:, 5] - 7
    np.testing.assert_allclose(told[:, 0], (odds - odds.mean()) / odds.std(), atol=1e-6)
    np.testing.assert_allclose(told[:, 1:].T @ told[:, 1:] / 500, np.eye(3), atol=1e-5)
    widths = np.sort(np.linalg.eigvalsh(np.cov(states.T, bias=True)))[::-1]
    np.testing.assert_allclose(1 / (found.axes**2).sum(axis=0), widths[:3], rtol=1e-4)


def test_a_model_that_says_the_same_in_other_axes_is_turned_to_say_it_in_the_served_ones() -> None:
    """Axes turned, mirrored and in another order, another centre and scale, log-odds half as large."""
    states = drawn_states(400)
    turn = ortho_group.rvs(6, random_state=2)
    served, other = answers_of(states), answers_of(3 * states[:, ::-1] @ turn - 1, expit((states[:, 0] - 7) / 6 - 4))
    readout, of_other = Readout.fitted(served, 3), Readout.fitted(other, 3)
    turned = of_other.turned(of_other.of(other), readout.of(served))
    assert np.abs(of_other.of(other) - readout.of(served)).max() > 1
    np.testing.assert_allclose(turned.of(other), readout.of(served), atol=1e-3)
    np.testing.assert_allclose(agreement(turned.of(other), readout.of(served)), 1, atol=1e-5)


def test_more_components_than_directions_are_refused() -> None:
    flat = drawn_states(50)
    flat[:, 2:] = 0
    with pytest.raises(
        DataError, match="components is 3, but the states of 50 held-out prompts differ in 2 directions"
    ):
        Readout.fitted(answers_of(flat), 3)
    assert Readout.fitted(answers_of(flat), 0).of(answers_of(flat)).shape == (50, 1)


def told(setting: StudySetting, train: Samples, folder: Path) -> tuple[OutOfFold, Floats]:
    """What is said of train out of fold, and of held-out samples by the served model, trained on all of train."""
    recipe, held_out = recipe_of(setting), setting.held_out
    retrain(setting.base, recipe, train, seed=recipe.seed, folder=folder)
    answers = adapter_answers(
        setting.base, recipe, held_out, completions=setting.completions, folder=folder, states=True
    )
    served = Readout.fitted(answers, COMPONENTS).of(answers)
    inputs = BoostedInputs(
        folder=folder,
        train=table_of(train),
        held_out=table_of(held_out, "select"),
        features=pd.DataFrame(),
        teachers=[None] * FOLDS,
        completions=setting.completions,
    )
    found = out_of_fold_readout(setting.base, recipe, inputs.train, inputs.train, inputs.held_out, served, inputs)
    return found, served


def test_no_sample_is_answered_by_a_training_that_saw_its_person(setting: StudySetting, tmp_path: Path) -> None:
    """By hand for one fold; and labels of a person change nothing that is said of it, but what is said of others."""
    train, recipe = setting.train, recipe_of(setting)
    found, served = told(setting, train, tmp_path / "served")
    fold = card_folds([f"p{user}" for user in train.user_id], recipe)
    others, asked = train.take(np.flatnonzero(fold != 0)), train.take(np.flatnonzero(fold == 0))
    retrain(setting.base, recipe, others, seed=recipe.seed, folder=tmp_path / "others")
    of_fold, of_held_out = (
        adapter_answers(
            setting.base,
            recipe,
            samples,
            completions=setting.completions,
            folder=tmp_path / "others",
            states=True,
        )
        for samples in (asked, setting.held_out)
    )
    readout = Readout.fitted(of_held_out, COMPONENTS)
    readout = readout.turned(readout.of(of_held_out), served)
    np.testing.assert_allclose(found.told[fold == 0], readout.of(of_fold), atol=1e-3)
    assert found.agreement.shape == (1 + COMPONENTS,)

    own = np.array([user == train.user_id[0] for user in train.user_id])
    good, bad = setting.completions
    label = np.where(own, 1 - train.label, train.label)
    flipped = replace(train, label=label, completion_ids=tuple(bad if one else good for one in label))
    # The served model learns the labels of all, so its axes may turn: only the log-odds are free of them altogether.
    after, _ = told(setting, flipped, tmp_path / "flipped")
    np.testing.assert_array_equal(after.told[own, 0], found.told[own, 0])
    assert not np.array_equal(after.told[fold != fold[own][0], 0], found.told[fold != fold[own][0], 0])


def made(size: int) -> tuple[pd.DataFrame, Floats, Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Features, log-odds that say little, states whose third direction says what neither says, and labels."""
    features, states = RNG.normal(size=(size, 3)), drawn_states(size)
    hidden = (states[:, 2] - 7) / 2
    odds = 0.5 * hidden + RNG.normal(size=size)
    bad = RNG.random(size) < expit(1.2 * features[:, 0] + 1.5 * hidden - 1)
    return pd.DataFrame(features, columns=["months", "amount_paid", "age"]), expit(odds), states, bad


def test_states_that_say_what_the_features_lack_make_a_better_card_than_its_parts(tmp_path: Path) -> None:
    parts = [made(size) for size in (3000, 1500, 3000)]
    readout = Readout.fitted(answers_of(parts[1][2], parts[1][1]), COMPONENTS)
    train, stop, test = (
        Labelled(features=with_readout(features, readout(p_bad, states.astype(np.float32))), bad=bad)
        for features, p_bad, states, bad in parts
    )
    name, trees = fit_trees(train, stop, ["lightgbm"], seed=1)
    assert name == "lightgbm"
    without = boosted_trees(train, stop, feature_space(train.features, ["months", "amount_paid", "age"]), seed=1)
    card, of_features, of_model = (
        roc_auc_score(test.bad, score) for score in (trees(test.features), without(test.features), parts[2][1])
    )
    assert card > of_features + 0.05
    assert card > of_model + 0.05

    for fitted in (trees, readout):
        fitted.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(BOOSTED_FILES)
    added = Boosted(boosted=FileDigests.of(tmp_path, BOOSTED_FILES), outcome_events=("late",))
    features, p_bad, states, _ = parts[2]
    served = added.opened(tmp_path)(p_bad, states.astype(np.float32), features)
    np.testing.assert_array_equal(served, trees(test.features))


def test_a_language_model_that_says_nothing_leaves_the_trees_of_the_features() -> None:
    features, _, _, bad = made(3000)
    train, stop = slice(0, 2000), slice(2000, None)
    told = with_readout(features, np.zeros((3000, 1 + COMPONENTS)))
    _, neutral = fit_trees(
        Labelled(features=told[train], bad=bad[train]),
        Labelled(features=told[stop], bad=bad[stop]),
        ["lightgbm"],
        seed=1,
    )
    expected = boosted_trees(
        Labelled(features=features[train], bad=bad[train]),
        Labelled(features=features[stop], bad=bad[stop]),
        feature_space(features, [*features]),
        seed=1,
        seeds=3,
    )
    np.testing.assert_allclose(neutral(told[stop]), expected(features[stop]), atol=0.05)
    changed = with_readout(features, RNG.normal(size=(3000, 1 + COMPONENTS)))
    np.testing.assert_array_equal(neutral(changed), neutral(told))


def test_one_class_is_refused() -> None:
    features, _, _, bad = made(60)
    known = Labelled(features=features, bad=bad)
    with pytest.raises(DataError, match=r"card\.boosted: expected both classes.*and 0 of 60 held-out ones"):
        fit_trees(known, replace(known, bad=np.zeros(60, dtype=bool)), ["lightgbm"], seed=1)
