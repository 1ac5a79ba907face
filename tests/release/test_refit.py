"""The refit: the released model, trained again on all splits, becomes the champion."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from sklearn.metrics import roc_auc_score

from jobs.refit_model import refit_model
from jobs.score_users import score_users
from tests.support.finished import TINY, FinishedRun
from tests.support.later import copied_lake, later_run
from zigong.dataset.members import SPLITS
from zigong.errors import ConfigError
from zigong.evaluation.bootstrap import Interval
from zigong.evaluation.fusion import Fusion
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import load_recipe
from zigong.release.backtest import Backtest
from zigong.release.model import require_unseen
from zigong.release.registry import champion
from zigong.release.serving import registry_of
from zigong.runs.card_values import EvaluatedCard, FusedCard
from zigong.runs.handover import FinalModel, GateDecision, RefittedModel
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.run import Run


def test_a_recipe_that_holds_clients_out_cannot_be_refitted() -> None:
    assert load_recipe(TINY, ["refit={}"]).refit is not None
    one_date = ["split.by=user_hash", "observations.validation=null", "observations.oot=null", "influence.pairs=all"]
    one_date += ["observations.train={first: 2023-03-01, last: 2023-03-01}", "split.validation_share=0.2"]
    assert load_recipe(TINY, one_date).refit is None
    with pytest.raises(ConfigError, match=r"refit needs split\.by: time"):
        load_recipe(TINY, [*one_date, "refit={}"])


@pytest.mark.soak
def test_the_released_model_is_trained_on_all_splits_and_scores_with_the_judged_calibration(
    tiny_run: FinishedRun, tmp_path: Path
) -> None:
    root = copied_lake(tiny_run, tmp_path / "lake")
    run, first = later_run(tiny_run, root, ["refit={epochs: 2}"]), tiny_run.run
    fused = first.take(FusedCard)
    run.leave(first.take(GateDecision))
    run.leave(replace(fused, folder=run.artefact_folder(FusedCard)))
    run.leave(first.take(EvaluatedCard))
    for table in ("releases", "evaluation_answers"):
        run.pin(table, first.manifest()["tables"][table])
    judged = champion(registry_of(run.recipe))
    assert judged is not None
    assert judged.model.trained_until == date(2023, 4, 1)

    done = run_step("refit_model", refit_model, run)
    assert (done.code, done.message) == (0, "")

    left, current = run.take(RefittedModel), champion(registry_of(run.recipe))
    assert current is not None
    assert current.model.model_id == left.model_id != judged.model.model_id
    assert current.model.parents == (judged.model.model_id,)
    assert (current.model.calibration, current.model.threshold) == (judged.model.calibration, judged.model.threshold)
    assert current.model.trained_until == date(2023, 6, 1)
    assert current.model.asked.adapter != judged.model.asked.adapter
    assert isinstance(current.model.fusion, Fusion)
    assert isinstance(judged.model.fusion, Fusion)
    assert current.model.fusion.stack == judged.model.fusion.stack
    assert current.model.fusion.trees != judged.model.fusion.trees
    assert int(left.samples.replace(",", "")) == run.metrics()["refit.samples"] == _expected_samples(tiny_run)
    card = (current.folders.adapter.parent / "model_card.md").read_text("utf-8")
    assert card.startswith(f"# {left.model_id}\n")
    assert f"After the release of `{judged.model.model_id}` its training was repeated" in card
    _check_backtest(run, left, card, judged.model.model_id)

    releases = DeltaTable(str(root / "tables/releases")).to_pyarrow_table().to_pandas()
    (row,) = releases[releases["model_id"] == left.model_id].to_dict("records")
    assert (row["decision"], row["champion_id"]) == ("released", judged.model.model_id)

    scored = run_step("score_users", score_users, run)
    assert (scored.code, scored.message) == (0, "")
    rows = DeltaTable(str(root / "tables/behavior_card_scores")).to_pyarrow_table().to_pandas()
    by_model = {name: part.set_index("user_id")["p_bad"].sort_index() for name, part in rows.groupby("model_id")}
    ours, theirs = by_model[left.model_id], by_model[judged.model.model_id]
    assert (ours.index == theirs.index).all()
    assert not np.allclose(ours, theirs)
    assert "score.psi" in run.metrics()  # against the judged model's answers to select

    with pytest.raises(ConfigError, match=f"model {left.model_id} was trained on samples until 2023-06-01"):
        require_unseen(current.model, run.recipe.split, held_out_from=date(2023, 6, 1))
    require_unseen(current.model, run.recipe.split, held_out_from=date(2023, 7, 1))


def job_of(run: Run) -> Job:
    return Job(step="test", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))


def _check_backtest(run: Run, left: RefittedModel, card: str, judged: str) -> None:
    """The judged model's AUC plus the lead is the trial's, which has fewer samples than the refit."""
    figures, members = run.metrics(), job_of(run).sample_source().members(["oot"])
    answers = DeltaTable(f"{run.recipe.lakehouse.root}/tables/evaluation_answers").to_pyarrow_table().to_pandas()
    own = answers[answers["model_id"] == judged].set_index("sample_id")["p_bad"]
    auc = roc_auc_score(members["label"], own.loc[members["sample_id"].to_pylist()])
    assert figures["refit.backtest_auc"] - figures["refit.backtest_auc_lead"] == pytest.approx(auc)
    assert figures["refit.backtest_auc_lead_low"] < figures["refit.backtest_auc_lead"]
    assert left.backtest is not None
    adapters = {file.parent.name for file in run.folder.rglob("adapter_model.safetensors")}
    assert not {name for name in adapters if "backtest" in name or name == "adapter"}
    assert card.endswith(f"{left.backtest}\n")
    found = re.search(r"on ([\d,]+) samples until 2023-05-01", left.backtest)  # the first date of validation
    assert found is not None
    assert int(found[1].replace(",", "")) == figures["refit.samples"] - len(members)


def test_a_trial_that_is_behind_for_certain_is_worse() -> None:
    def trial(high: float) -> Backtest:
        lead = Interval(value=-0.02, low=-0.03, high=high)
        auc = Interval(value=0.7, low=0.6, high=0.8)
        return Backtest(samples=1200, trained_until="2023-05-01", auc=auc, lead=lead)

    assert trial(-0.001).is_worse
    assert not trial(0.001).is_worse
    assert trial(0.001).sentence == (
        "Backtest: the same refit without the final split, on 1,200 samples until 2023-05-01, had an AUC of 0.7000 "
        "there, -0.0200 (-0.0300 to +0.0010) against the judged model."
    )


@pytest.mark.soak
def test_a_refit_whose_backtest_is_worse_is_not_released(tiny_run: FinishedRun, tmp_path: Path) -> None:
    root = copied_lake(tiny_run, tmp_path / "lake")
    run = later_run(tiny_run, root, ["refit={epochs: 1}"])
    run.leave(tiny_run.run.take(EvaluatedCard))
    run.leave(tiny_run.run.take(GateDecision))
    run.pin("releases", tiny_run.run.manifest()["tables"]["releases"])
    run.leave(replace(tiny_run.run.take(FusedCard), folder=run.artefact_folder(FusedCard)))
    before = champion(registry_of(run.recipe))
    assert before is not None
    uri = f"{root}/tables/evaluation_answers"
    answers = DeltaTable(uri).to_pyarrow_table()
    members = job_of(run).sample_source().members(["oot"])
    label = dict(zip(members["sample_id"].to_pylist(), members["label"].to_pylist(), strict=True))
    perfect = [float(label.get(key, 0)) for key in answers["sample_id"].to_pylist()]  # no refit can be as good
    place = answers.column_names.index("p_bad")
    write_deltalake(uri, answers.set_column(place, answers.schema.field(place), pa.array(perfect)), mode="overwrite")
    run.pin("evaluation_answers", DeltaTable(uri).version())
    done = run_step("refit_model", refit_model, run)
    assert (done.code, run.find(RefittedModel)) == (0, None)
    assert champion(registry_of(run.recipe)) == before
    assert run.metrics()["refit.backtest_auc_lead_high"] < 0


@pytest.mark.soak
def test_what_the_gate_refused_is_not_refitted(tiny_run: FinishedRun, tmp_path: Path) -> None:
    root = copied_lake(tiny_run, tmp_path / "lake")
    run = later_run(tiny_run, root, ["refit={}"])
    run.leave(GateDecision(decision="refused", reasons=("no",)))
    before = champion(registry_of(run.recipe))
    done = run_step("refit_model", refit_model, run)
    assert (done.code, done.message, run.find(RefittedModel)) == (0, "", None)
    assert champion(registry_of(run.recipe)) == before


def _expected_samples(finished: FinishedRun) -> int:
    rows = DeltaTable(f"{finished.root}/tables/dataset_members").to_pyarrow_table(columns=["split"]).to_pandas()
    assert set(rows["split"]) <= set(SPLITS)
    mix = DeltaTable(f"{finished.root}/tables/training_mix").to_pyarrow_table(columns=["mix_id"]).to_pandas()
    trained_on = finished.run.take(FinalModel).trained_on
    return int((rows["split"] != "train").sum() + (mix["mix_id"] == trained_on).sum())
