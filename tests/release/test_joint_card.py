"""A joint card: measured beside the card, chosen on ``select``, registered whole, and scored as it was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from scipy.special import expit, logit

from jobs.evaluate_model import SPLITS, evaluate_model
from jobs.release_model import release_model
from jobs.score_users import score_users
from tests.support.finished import TINY, FinishedRun
from tests.support.later import copied_lake, later_run
from zigong.errors import ConfigError
from zigong.evaluation.asked_card import asked_cards
from zigong.evaluation.asked_model import ModelFolders, OpenedModel
from zigong.evaluation.baselines import features_of_members
from zigong.evaluation.calibration import calibrated
from zigong.evaluation.cards import losses_on_select
from zigong.evaluation.feature_words import FeatureWords
from zigong.evaluation.joint import Joint
from zigong.evaluation.metrics import log_loss
from zigong.evaluation.prompt_sources import SamplePrompts
from zigong.instructions.prompt_spec import PromptSpec
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import load_recipe
from zigong.release.registry import champion
from zigong.release.serving import published_sequences, registry_of
from zigong.runs.card_values import EvaluatedCard, FusedCard, JointModel
from zigong.runs.handover import FinalModel, TrainedBase
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.run import Run
from zigong.runs.takeover import first_reader
from zigong.training.tower import TOWER, load_tower


def rows(root: str | Path, table: str, **wanted: object) -> pd.DataFrame:
    found: pd.DataFrame = DeltaTable(f"{root}/tables/{table}").to_pyarrow_table().to_pandas()
    for column, value in wanted.items():
        found = found.loc[found[column] == value]
    return found


def recipe_of(*changes: str) -> tuple[str, tuple[str, ...], bool]:
    card = load_recipe(TINY, ["card={}", *changes]).card
    return card.head, card.compared, card.joint is not None


def test_a_joint_model_is_trained_where_a_head_or_a_candidate_needs_it() -> None:
    assert recipe_of() == ("lm", ("lm",), False)
    assert recipe_of("card.head=joint") == ("joint", ("joint",), True)
    assert recipe_of("card.joint={width: 3}") == ("lm", ("lm",), True)
    assert recipe_of("card.head=select") == ("select", ("lm", "fused", "joint"), True)
    assert recipe_of("card.head=select", "card.candidates=[fused, lm]") == ("select", ("fused", "lm"), False)
    for wrong in (["card.candidates=[fused, lm]"], ["card.head=select", "card.candidates=[lm, lm]"]):
        with pytest.raises(ConfigError, match="candidates"):
            recipe_of(*wrong)
    assert (first_reader("card.joint.width"), first_reader("card.head")) == ("finetune_zigong", "evaluate_model")


def test_a_recipe_without_a_joint_model_has_the_digest_that_it_had_before() -> None:
    content = load_recipe(TINY, ["card={}"]).model_dump(mode="json")["card"]
    assert content == {"head": "lm", "base_score": 600, "base_odds": 20.0, "pdo": 50}


def test_the_smallest_calibrated_log_loss_on_select_wins() -> None:
    generator = np.random.default_rng(0)
    signal = generator.normal(size=900)
    label = (generator.random(900) < expit(signal)).astype(np.int64)
    members = pa.table({"split": ["select"] * 600 + ["oot"] * 300, "label": label})
    wrong = np.concatenate([generator.normal(size=600), signal[600:]])
    found = losses_on_select({"lm": expit(2 * signal), "fused": expit(wrong), "joint": expit(signal)}, members)
    assert found["lm"] == pytest.approx(found["joint"], abs=1e-4)  # the same ranking, calibrated
    assert found["joint"] == pytest.approx(log_loss(label[:600], expit(signal[:600])), abs=0.01)
    assert found["fused"] > found["joint"] + 0.05


def test_the_joint_answers_are_the_models_odds_plus_the_tower(tiny_run: FinishedRun) -> None:
    job = Job(step="test", run=tiny_run.run, paths=tiny_run.paths)
    joint, base = tiny_run.run.take(JointModel), tiny_run.run.take(TrainedBase).folder
    source = job.sample_source()
    members = source.members(SPLITS).slice(0, 40)
    folders = ModelFolders(base=base, adapter=joint.folder, added=joint.folder)
    _, cards = asked_cards(job, base, PromptSpec.of_recipe(job.recipe), published_sequences(job))
    card = cards["joint"]
    prompts = source.with_prompts(members)
    model = OpenedModel(card.asked, folders)
    by_engine = []
    for engine in ("samples", "trees"):
        answers = model.answers(prompts, engine=engine, batch_tokens=4096, states=True)
        tower, columns = load_tower(joint.folder)
        added = tower(
            tower.output.weight.new_tensor(answers["state"].to_pylist()),
            tower.starts.new_tensor(FeatureWords.from_json(columns)(features_of_members(job, members))),
        ).numpy()
        by_engine.append(logit(answers["p_bad"].to_numpy()) + added)
    stored = rows(tiny_run.root, "evaluation_answers", model_id=joint.model_id).set_index("sample_id")["p_bad"]
    expected = logit(stored.loc[members["sample_id"].to_pylist()].to_numpy())
    for found in by_engine:
        np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.ptp(added) > 1e-4


def test_every_part_is_measured_and_only_one_is_the_card(tiny_run: FinishedRun) -> None:
    run, flat = tiny_run.run, tiny_run.run.metrics()
    card = run.take(EvaluatedCard)
    assert (card.head, card.card, card.language_model) == (
        "fused",
        run.take(FusedCard).model_id,
        run.take(FinalModel).model_id,
    )
    assert {f"oot.auc.{name}" for name in ("zigong", "zigong_lm", "zigong_joint", "lightgbm")} <= set(flat)
    assert flat["finetune.joint.final_loss"] > 0


def step(run: Run, name: str) -> None:
    body = {"score_users": score_users, "evaluate_model": evaluate_model, "release_model": release_model}[name]
    done = run_step(name, body, run)
    assert (done.code, done.message) == (0, "")


@pytest.mark.soak
@pytest.mark.parametrize("changes", [["card.head=joint"], ["card.head=select"]], ids=["joint", "select"])
def test_a_released_joint_card_scores_as_it_was_evaluated(
    tiny_run: FinishedRun, tmp_path: Path, changes: Sequence[str]
) -> None:
    root = copied_lake(tiny_run, tmp_path / "lake")
    run = later_run(tiny_run, root, changes)
    step(run, "evaluate_model")
    card, joint = run.take(EvaluatedCard), run.take(JointModel)
    if changes == ["card.head=select"]:
        losses = dict(part.split(" ") for part in (card.log_loss_on_select or "").split(", "))
        assert card.head == min(losses, key=lambda head: float(losses[head]))
        metrics = rows(root, "evaluation_metrics", split="select", metric="log_loss", slice="all")
        measured = metrics.set_index("model_id")["value"][card.card]
        assert float(losses[card.head]) == pytest.approx(measured, abs=1e-4)
        return
    assert card.card == joint.model_id
    step(run, "release_model")
    current = champion(registry_of(run.recipe))
    assert current is not None
    assert current.folders.added is not None
    file = current.folders.added / TOWER
    tower = file.read_bytes()
    file.write_bytes(tower[:-1] + bytes([tower[-1] ^ 1]))
    done = run_step("score_users", score_users, run)
    assert (done.kind, done.code) == ("data", 3)
    assert f"{file}: expected SHA-256" in done.message
    file.write_bytes(tower)
    step(run, "score_users")
    assert current.model.model_id == joint.model_id
    assert isinstance(current.model.fusion, Joint)
    job = Job(step="test", run=run, paths=LakehousePaths.at(str(root)))
    _, cards = asked_cards(job, run.take(TrainedBase).folder, current.model.asked.prompts, published_sequences(job))
    asked = cards["joint"]
    scores = rows(root, "behavior_card_scores", model_id=joint.model_id)
    members = job.sample_source().members(SPLITS)
    again = asked.answers(
        SamplePrompts(
            source=job.sample_source(),
            template=run.recipe.instructions.template,
            horizon=run.recipe.labels.horizons[0].name,
            splits=SPLITS,
        ),
        members,
        recipe=run.recipe,
        stage=tmp_path / "again",
    )
    stored = rows(root, "evaluation_answers", model_id=joint.model_id).set_index("sample_id")["p_bad"]
    np.testing.assert_allclose(again["p_bad"], stored.loc[members["sample_id"].to_pylist()], atol=1e-6)
    assert len(scores) > 0
    calibration = current.model.calibration
    assert scores["p_bad"].between(*calibrated(calibration, np.array([1e-6, 1 - 1e-6]))).all()
    assert scores["reasons"].notna().any()
