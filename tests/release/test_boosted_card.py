"""A boosted card: fitted beside the final model, registered whole, scored as it was evaluated, and refitted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

from jobs.evaluate_model import SPLITS, evaluate_model
from jobs.finetune_zigong import finetune_zigong
from jobs.refit_model import refit_model
from jobs.release_model import release_model
from jobs.score_users import score_users
from tests.support.finished import TINY, FinishedRun
from tests.support.later import copied_lake, later_run
from zigong.cli.estimate import estimate_run
from zigong.dataset.members import SPLITS as EVERY_SPLIT
from zigong.errors import ConfigError
from zigong.evaluation.boosted import Boosted
from zigong.evaluation.boosted_card import boosted_beside, persons_apart, refit_inputs
from zigong.evaluation.boosted_training import card_folds
from zigong.evaluation.held_out_answers import model_answers
from zigong.evaluation.prompt_sources import SamplePrompts
from zigong.evaluation.readout import READOUT
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import load_recipe
from zigong.release.registry import Champion, champion
from zigong.release.serving import fused_part, published_sequences, registry_of
from zigong.runs.card_values import BoostedCard, EvaluatedCard, JointModel
from zigong.runs.handover import FinalModel, RefittedModel, TrainedBase
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.run import Run
from zigong.runs.takeover import first_reader

BODIES = {
    "finetune_zigong": finetune_zigong,
    "evaluate_model": evaluate_model,
    "release_model": release_model,
    "score_users": score_users,
    "refit_model": refit_model,
}
FURTHER = ("card={head: boosted, boosted: {components: 2}}", "finetune.distil={weight: 0.3}", "refit={backtest: false}")


def rows(root: str | Path, table: str, **wanted: object) -> pd.DataFrame:
    found: pd.DataFrame = DeltaTable(f"{root}/tables/{table}").to_pyarrow_table().to_pandas()
    for column, value in wanted.items():
        found = found.loc[found[column] == value]
    return found


def recipe_of(*changes: str) -> tuple[tuple[str, ...], int | None, bool]:
    card = load_recipe(TINY, ["card={}", *changes]).card
    return card.compared, None if card.boosted is None else card.boosted.components, card.joint is not None


def test_a_boosted_card_is_fitted_where_a_head_or_a_candidate_needs_it() -> None:
    assert recipe_of() == (("lm",), None, False)
    assert recipe_of("card.head=boosted") == (("boosted",), 2, False)
    assert recipe_of("card.boosted={components: 0}") == (("lm",), 0, False)
    assert recipe_of("card.head=select") == (("lm", "fused", "joint"), None, True)
    both = recipe_of("card.head=select", "card.candidates=[fused, boosted]", "card.boosted={components: 3}")
    assert both == (("fused", "boosted"), 3, False)
    with pytest.raises(ConfigError, match=r"card\.boosted\.folds"):
        recipe_of("card.boosted={folds: 1}")
    assert first_reader("card.boosted.folds") == "finetune_zigong"


def test_each_further_fold_costs_the_training_and_its_ensemble_again() -> None:
    changes = ["finetune.distil={weight: 0.5, ensemble: {}}", "card={}", "mix.proxy_samples=0"]
    once, twice = (
        estimate_run(load_recipe(TINY, [*changes, *more])).seconds["fine-tune"]
        for more in ((), ("card.boosted={folds: 3}",))
    )
    start = estimate_run(load_recipe(TINY, [*changes, "mix.fraction=1e-9"])).seconds["fine-tune"]
    assert (twice - start) / (once - start) == pytest.approx(3)


def step(run: Run, name: str, code: int = 0) -> str:
    done = run_step(name, BODIES[name], run)
    assert done.code == code, done.message
    return done.message


def serving(run: Run) -> Champion:
    found = champion(registry_of(run.recipe))
    assert found is not None
    return found


@pytest.mark.soak
def test_a_released_boosted_card_scores_as_it_was_evaluated_and_is_refitted(
    tiny_run: FinishedRun, tmp_path: Path
) -> None:
    root = copied_lake(tiny_run, tmp_path / "lake")
    run = later_run(tiny_run, root, FURTHER)
    for kind in (FinalModel, JointModel):
        shutil.rmtree(run.artefact_folder(kind))
    step(run, "finetune_zigong")
    _check_teachers(run)
    step(run, "evaluate_model")
    card, boosted, flat = run.take(EvaluatedCard), run.take(BoostedCard), run.metrics()
    assert (card.head, card.card) == ("boosted", boosted.model_id)
    assert card.language_model == run.take(FinalModel).model_id == boosted.language_model
    assert {f"oot.auc.{name}" for name in ("zigong", "zigong_lm", "lightgbm")} <= set(flat)
    assert 0 <= flat["finetune.boosted.out_of_fold_auc"] <= 1
    assert {f"finetune.boosted.agreement_of_{name}" for name in ("log_odds", "component_2")} <= set(flat)
    assert sorted(file.name for file in boosted.folder.iterdir()) == [
        "columns.json", READOUT, "trees_0.txt", "trees_1.txt", "trees_2.txt",
    ]  # fmt: skip
    step(run, "release_model")

    current = serving(run)
    assert isinstance(current.model.fusion, Boosted)
    assert current.model.model_id == boosted.model_id
    assert current.folders.added is not None
    again = answers_again(run, current, tmp_path / "again")
    np.testing.assert_allclose(again["p_bad"], again["stored"], atol=1e-9)
    file = current.folders.added / READOUT
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{file}: expected SHA-256" in step(run, "score_users", code=3)
    file.write_bytes(content)
    step(run, "score_users")
    scores = rows(root, "behavior_card_scores", model_id=boosted.model_id)
    assert len(scores) > 0
    assert scores["reasons"].notna().any()
    _check_refit(run, current)


def job_of(run: Run) -> Job:
    return Job(step="test", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))


def _check_teachers(run: Run) -> None:
    """The teacher of the training without a fold answers every other train sample, and knows no person of the fold."""
    inputs = boosted_beside(job_of(run), run.take(TrainedBase).folder)
    assert inputs is not None
    train = inputs.train.to_pandas()
    fold = card_folds(train["person_id"].tolist(), run.recipe)
    assert len(inputs.teachers) == 2
    for own, teacher in enumerate(inputs.teachers):
        assert teacher is not None
        assert teacher.p_bad.keys() == set(train["sample_id"][fold != own])


def answers_again(run: Run, current: Champion, stage: Path) -> pd.DataFrame:
    """The registered card's answers to the evaluated members, from sequences instead of features; and the stored."""
    job = job_of(run)
    source, recipe = job.sample_source(), run.recipe
    members = source.members(SPLITS)
    template, horizon = recipe.instructions.template, recipe.labels.horizons[0].name
    found: pd.DataFrame = model_answers(
        current.model.model_id,
        current.model.asked,
        current.folders,
        SamplePrompts(source=source, template=template, horizon=horizon, splits=SPLITS),
        members,
        recipe=recipe,
        stage=stage,
        fused=fused_part(current, published_sequences(job)),
    ).to_pandas()
    stored = rows(recipe.lakehouse.root, "evaluation_answers", model_id=current.model.model_id)
    found["stored"] = stored.set_index("sample_id")["p_bad"].loc[found["sample_id"]].to_numpy()
    return found


def _check_refit(run: Run, judged: Champion) -> None:
    """The persons apart are held out of model, teacher and trees alike."""
    step(run, "refit_model")
    current, left = serving(run), run.take(RefittedModel)
    assert current.model.model_id == left.model_id != judged.model.model_id
    assert isinstance(current.model.fusion, Boosted)
    assert current.model.fusion != judged.model.fusion
    assert current.model.calibration == judged.model.calibration
    job = job_of(run)
    inputs = refit_inputs(job, run.take(TrainedBase).folder, left.folder, EVERY_SPLIT)
    held_out, fitted_on = (set(part["person_id"].to_pylist()) for part in (inputs.held_out, inputs.train))
    assert held_out and not held_out & fitted_on
    assert all(
        teacher and not teacher.p_bad.keys() & set(inputs.held_out["sample_id"].to_pylist())
        for teacher in inputs.teachers
    )
    mix_id = run.take(FinalModel).trained_on
    mix = set(rows(run.recipe.lakehouse.root, "training_mix", mix_id=mix_id)["sample_id"])
    members = job.sample_source().members(EVERY_SPLIT).to_pandas()
    trained = members[(members["split"] != "train") | members["sample_id"].isin(mix)]
    apart = persons_apart(run.recipe)(trained["person_id"].tolist())
    assert 0 < apart.mean() < 0.3
    assert int(left.samples.replace(",", "")) == int((~apart).sum())
