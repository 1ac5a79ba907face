"""A boosted card: trees on features and on what a language model says, which on train is said out of fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit
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


def test_a_model_that_says_the_same_in_other_axes_is_translated_into_the_served_ones() -> None:
    """Axes mixed and in another order, another centre and scale, log-odds half as large."""
    states, mixed = drawn_states(400), RNG.normal(size=(6, 6)) + np.eye(6)
    served, other = answers_of(states), answers_of(states @ mixed - 1, expit((states[:, 0] - 7) / 6 - 4))
    readout, of_other = Readout.fitted(served, 3), Readout.fitted(other, 3, spare=9)
    assert of_other.axes.shape == (6, 6)
    assert np.abs(of_other.of(other)[:, :4] - readout.of(served)).max() > 1
    translated = of_other.translated(of_other.of(other), readout.of(served))
    np.testing.assert_allclose(translated.of(other), readout.of(served), atol=1e-3)
    np.testing.assert_allclose(agreement(translated.of(other), readout.of(served)), 1, atol=1e-5)


def test_what_a_model_does_not_tell_has_variance_1_and_a_small_correlation() -> None:
    """The other model's states have the first direction, half of the second, and nothing of the third."""
    states, noise = drawn_states(2000), RNG.normal(size=(2000, 6))
    known = np.column_stack([states[:, 0], states[:, 1] - 7 + 3 * noise[:, 1], *noise[:, 2:].T])
    readout, of_other = Readout.fitted(answers_of(states), 3), Readout.fitted(answers_of(known), 3, spare=3)
    told = readout.of(answers_of(states))
    said = of_other.translated(of_other.of(answers_of(known)), told).of(answers_of(known))
    np.testing.assert_allclose(said.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(agreement(said, told), [1, 1, 0.5**0.5, 0], atol=0.1)


def test_more_components_than_directions_are_refused() -> None:
    flat = drawn_states(50)
    flat[:, 2:] = 0
    with pytest.raises(
        DataError, match="components is 3, but the states of 50 held-out prompts differ in 2 directions"
    ):
        Readout.fitted(answers_of(flat), 3)
    assert Readout.fitted(answers_of(flat), 0).of(answers_of(flat)).shape == (50, 1)


def out_of_fold(setting: StudySetting, train: Samples, served: Floats) -> OutOfFold:
    """What is said of train out of fold, in the terms of what the served model says of the held-out samples."""
    members, held_out = table_of(train), table_of(setting.held_out, "select")
    inputs = BoostedInputs(
        folder=setting.scratch,
        train=members,
        held_out=held_out,
        features=pd.DataFrame(),
        teachers=[None] * FOLDS,
        completions=setting.completions,
    )
    return out_of_fold_readout(setting.base, recipe_of(setting), members, members, held_out, served, inputs)


def answers_after(setting: StudySetting, train: Samples, asked: Samples, folder: Path) -> pa.Table:
    recipe = recipe_of(setting)
    if not folder.exists():
        retrain(setting.base, recipe, train, seed=recipe.seed, folder=folder)
    return adapter_answers(setting.base, recipe, asked, completions=setting.completions, folder=folder, states=True)


def test_no_sample_is_answered_by_a_training_that_saw_its_person(setting: StudySetting, tmp_path: Path) -> None:
    """By hand for one fold; and labels of a person change nothing that is said of it, but what is said of others."""
    train, held_out = setting.train, setting.held_out
    answers = answers_after(setting, train, held_out, tmp_path / "served")
    served = Readout.fitted(answers, COMPONENTS).of(answers)
    found = out_of_fold(setting, train, served)
    fold = card_folds([f"p{user}" for user in train.user_id], recipe_of(setting))
    others, asked = train.take(np.flatnonzero(fold != 0)), train.take(np.flatnonzero(fold == 0))
    of_fold, of_held_out = (answers_after(setting, others, one, tmp_path / "others") for one in (asked, held_out))
    readout = Readout.fitted(of_held_out, COMPONENTS, spare=3 * COMPONENTS)
    readout = readout.translated(readout.of(of_held_out), served)
    np.testing.assert_allclose(found.told[fold == 0], readout.of(of_fold), atol=1e-3)
    assert found.agreement.shape == (1 + COMPONENTS,)

    own = np.array([user == train.user_id[0] for user in train.user_id])
    good, bad = setting.completions
    label = np.where(own, 1 - train.label, train.label)
    flipped = replace(train, label=label, completion_ids=tuple(bad if one else good for one in label))
    after, same = out_of_fold(setting, flipped, served).told, fold == fold[own][0]
    np.testing.assert_array_equal(after[same], found.told[same])
    assert (after[~same] != found.told[~same]).all()


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
