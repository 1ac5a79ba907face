"""The selection study: what each rule chooses, gradients of single targets, and a study that goes on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.support.studied import studied_setting
from zigong.errors import ConfigError, DataError
from zigong.evaluation.compared_trainings import drawn_trainings
from zigong.evaluation.influence_study.setting import StudySetting
from zigong.evaluation.selection_study.evidence import evidence_of, pooled_states
from zigong.evaluation.selection_study.figures import flat_figures, readable, study_table
from zigong.evaluation.selection_study.plan import Plan, plan_of
from zigong.evaluation.selection_study.rules import RULES, Evidence, Request, Selection, round_robin
from zigong.evaluation.selection_study.trials import run_trials, store_of, training_seed
from zigong.recipe import Mix
from zigong.tokens.losses import hidden_states
from zigong.tokens.samples import batch_of
from zigong.training.base import load_model

PLAN = Plan(
    rules=("mix", "weights"),
    shares=(0.1, 0.5),
    flipped=(0.1,),
    budgets=("epochs",),
    seeds=1,
    small_seeds=1,
    small_draws=2,
)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> StudySetting:
    return studied_setting(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def known(setting: StudySetting) -> Evidence:
    return evidence_of(setting, setting.train, seed=7, name="agent")


def made_evidence(size: int = 40, targets: int = 6) -> Evidence:
    generator = np.random.default_rng(3)
    score = generator.normal(size=size)
    score[5] = np.nan
    return Evidence(
        label=(np.arange(size) % 4 == 0).astype(np.int64),
        score=score,
        loss=generator.random(size),
        products=generator.normal(size=(size, targets)).astype(np.float32),
        self_influence=generator.random(size),
        likeness=generator.random((size, targets)).astype(np.float32),
    )


def chosen_by(rule: str, known: Evidence, share: float = 0.3) -> Selection:
    generator = np.random.default_rng(1)
    return RULES[rule](Request(known=known, share=share, influence_share=0.5, generator=generator))


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"high", "low", "loss"}))
def test_a_rule_takes_its_share_of_each_label(rule: str) -> None:
    known = made_evidence()
    found = chosen_by(rule, known)
    assert len(set(found.indices.tolist())) == len(found.indices) == 12
    assert known.label[found.indices].sum() == 3


def test_rules_choose_the_ends_of_their_ranking() -> None:
    known = made_evidence()
    ranked = np.argsort(np.where(np.isnan(known.score), -np.inf, known.score))
    assert set(chosen_by("high", known).indices) == set(ranked[-12:])
    assert set(chosen_by("low", known).indices) == set(
        np.argsort(np.where(np.isnan(known.score), np.inf, known.score))[:12]
    )
    assert set(chosen_by("loss", known).indices) == set(np.argsort(known.loss)[-12:])
    bad = np.flatnonzero(known.label == 1)
    of_bad = set(bad[np.argsort(known.self_influence[bad])[:3]])
    assert set(chosen_by("self_influence", known).indices) & set(bad) == of_bad


def test_weights_keep_the_weight_of_each_label_and_rise_with_the_score() -> None:
    known = made_evidence()
    found = chosen_by("weights", known, share=0.5)
    assert found.weights is not None
    for label in (0, 1):
        own = known.label[found.indices] == label
        weights, scores = found.weights[own], known.score[found.indices][own]
        assert weights.mean() == pytest.approx(1)
        scored = ~np.isnan(scores)
        assert (np.argsort(weights[scored]) == np.argsort(scores[scored])).all()


def test_targets_take_in_turn_the_best_row_that_is_left() -> None:
    values = np.array([[9.0, 8.0], [1.0, 7.0], [5.0, 6.0], [2.0, 0.0]])
    assert round_robin(values, 4).tolist() == [0, 1, 2, 3]  # the second column would have liked row 0, too


def test_products_with_single_targets_add_up_to_the_score(setting: StudySetting, known: Evidence) -> None:
    assert known.products.shape == (len(setting.train), len(setting.targets))
    np.testing.assert_allclose(
        known.products.mean(axis=1), known.score, rtol=1e-3, atol=1e-4 * np.abs(known.score).max()
    )
    assert (known.self_influence > 0).all()


def test_pooled_states_weigh_later_tokens_more(setting: StudySetting) -> None:
    pooled = pooled_states(setting.base, setting.train, budget=512)
    batch = batch_of(setting.train, np.array([4]))
    states = hidden_states(load_model(setting.base), batch)[0].detach().numpy()
    places = np.arange(1, len(states) + 1)
    expected = (states * places[:, None]).sum(0) / places.sum()
    np.testing.assert_allclose(pooled[4].numpy(), expected / np.linalg.norm(expected), atol=1e-5)


def test_a_study_goes_on_where_it_stopped_and_compares_with_chance(setting: StudySetting, tmp_path: Path) -> None:
    store, seen = store_of(setting, tmp_path / "study"), list[tuple[int, int]]()

    def stop_after_three(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(setting, PLAN, store, seed=7, advance=stop_after_three)
    files = {file: file.stat().st_mtime_ns for file in store.folder.glob("*.parquet")}
    assert len(files) == 3
    answered = run_trials(setting, PLAN, store, seed=7, advance=lambda *_: None)
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert len(answered) == seen[-1][1] == len(list(store.folder.glob("*.parquet"))) == 3 * (2 + 1)
    table = study_table(setting, answered, choose_on="select", resamples=50, seed=1)
    assert set(table["trainings"]) == {1, 2}
    assert (table[table["rule"] == "random"]["lead"] == 0).all()
    for _, part in table.groupby(["split", "share"]):
        auc = dict(zip(part["rule"], part["auc"], strict=True))
        np.testing.assert_allclose(part["lead"].to_numpy(), part["auc"].to_numpy() - auc["random"])
    labels, oot = setting.held_out.label[30:], dict[str, list[float]]()
    for trial, p_bad in answered.items():
        if trial.share == 0.1:
            oot.setdefault(trial.rule, []).append(float(roc_auc_score(labels, p_bad[30:])))
    found = table[(table["split"] == "oot") & (table["share"] == 0.1)].set_index("rule")["auc"]
    assert found.to_dict() == pytest.approx({rule: float(np.mean(values)) for rule, values in oot.items()})
    chosen = table[(table["split"] == "select") & table["chosen"]]
    assert len(chosen) == 2  # one of each share
    for _, part in table[table["split"] == "select"].groupby("share"):
        assert part["chosen"].to_numpy()[part["auc"].to_numpy().argmax()]
    assert readable(table)["rule"].str.endswith(" *").tolist() == table["chosen"].tolist()
    figures = flat_figures(table)
    row = table[(table["rule"] == "mix") & (table["split"] == "oot") & (table["share"] == 0.5)].iloc[0]
    assert figures["selection.flipped_0.1.epochs.share_0.5.oot.auc.mix"] == row["auc"]


def test_trainings_are_drawn_by_seed_and_within_it() -> None:
    numbers = [np.array([0, 1, 2]), np.array([3, 4, 5])]
    seeds = [set(drawn_trainings(numbers, np.random.default_rng(seed)) // 3) for seed in range(60)]
    assert {frozenset(found) for found in seeds} == {frozenset({0}), frozenset({1}), frozenset({0, 1})}
    one_seed = sum(len(found) == 1 for found in seeds)
    assert 15 < one_seed < 45  # half of the time both drawn seeds are the same; six free draws would show it rarely


def test_steps_give_a_small_choice_as_many_steps_as_the_pool(setting: StudySetting, tmp_path: Path) -> None:
    plan = Plan(rules=(), shares=(0.5,), flipped=(0.0,), budgets=("epochs", "steps"), seeds=1)
    few = replace(setting, recipe=setting.recipe.model_copy(update={"mix": Mix(fraction=0.4, influence_share=0.0)}))
    assert store_of(few, tmp_path).fingerprint != store_of(setting, tmp_path).fingerprint
    answered = run_trials(setting, plan, store_of(setting, tmp_path), seed=7, advance=lambda *_: None)
    twice, once = (next(p for trial, p in answered.items() if trial.budget == name) for name in ("steps", "epochs"))
    known = evidence_of(setting, setting.train, seed=7, name="again")
    generator = np.random.default_rng([7, 0, 4])
    chosen = RULES["random"](Request(known=known, share=0.5, influence_share=0.3, generator=generator)).indices
    samples, seed = setting.train.take(chosen), training_seed(next(iter(answered)))
    for name, epochs, expected in (("four", 4, once), ("eight", 8, twice)):
        found = setting.retrained(samples, seed=seed, name=name, epochs=epochs)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_model_calls_the_bad_bad_and_weights_follow_their_samples(setting: StudySetting) -> None:
    itself = replace(setting, held_out=setting.train)
    label = setting.train.label
    plain = itself.retrained(setting.train, seed=1, name="plain")
    assert roc_auc_score(label, plain) > 0.8
    only_bad = itself.retrained(setting.train, seed=1, name="only bad", weights=np.where(label == 1, 1.0, 0.0))
    assert only_bad.mean() > plain.mean() + 0.1


def test_a_split_without_bad_samples_is_refused_before_any_training(setting: StudySetting, tmp_path: Path) -> None:
    good = replace(setting.held_out, label=np.zeros(len(setting.held_out), dtype=np.int64))
    with pytest.raises(DataError, match="select: expected good and bad samples, found 0 bad of 30"):
        run_trials(replace(setting, held_out=good), PLAN, store_of(setting, tmp_path), seed=7, advance=lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_the_plan_repeats_small_shares_and_trains_the_complete_pool_once() -> None:
    plan = plan_of("high", "0.1,0.5,1", "0,0.1", "epochs,steps", seeds=2, small_seeds=3, small_draws=2)
    trials = list(plan.trials(20))
    assert len(trials) == len(set(trials)) == 2 * (2 * 2 * 3 * 2 + 2 * 2 * 2 + 2)
    whole = [trial for trial in trials if trial.share == 1]
    assert {(trial.rule, trial.budget) for trial in whole} == {("random", "epochs")}
    assert {trial.seed for trial in trials} == {20, 21, 22}


@pytest.mark.parametrize(
    ("rules", "shares", "flipped", "budgets"),
    [
        ("best", "0.1", "0", "steps"),
        ("mix", "0", "0", "steps"),
        ("mix", "x", "0", "steps"),
        ("mix", "1", "0", "time"),
        ("mix", "1", "0", "steps"),
    ],
)
def test_a_plan_of_unknown_words_or_sizes_is_refused(rules: str, shares: str, flipped: str, budgets: str) -> None:
    with pytest.raises(ConfigError):
        plan_of(rules, shares, flipped, budgets, seeds=1, small_seeds=1, small_draws=1)
