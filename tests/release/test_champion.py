"""A champion under a changed recipe: it is still prompted with its own question and settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake
from safetensors.torch import load_file, save_file
from scipy.special import logit

from jobs.evaluate_model import SPLITS, evaluate_model
from jobs.release_model import release_model
from jobs.score_users import score_users
from tests.support.finished import FinishedRun
from tests.support.later import copied_lake, later_run
from tests.support.number_words import FITTED
from zigong.errors import ConfigError
from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.held_out import LEAD
from zigong.evaluation.measured import evaluated_model, measured_of
from zigong.evaluation.unadapted import CHANGE
from zigong.files.digests import files_digest
from zigong.instructions.encode import LineEncoder
from zigong.instructions.numbers import words_as_text
from zigong.instructions.prompt_spec import PromptSpec
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe.source import declared_event_types
from zigong.release.champion_answers import champion_answers
from zigong.release.registry import champion
from zigong.release.serving import fitted_numbers, registry_of, run_prompts
from zigong.runs.card_values import FusedCard
from zigong.runs.handover import FinalModel, FittedNumbers, TrainedBase
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.run import Outcome, Run
from zigong.training.adapters import WEIGHTS, adapter_digest, model_name

SAME: tuple[str, ...] = ()
OTHER_QUESTION = (
    "instructions.template=behavior_card@2",
    "instructions.language=zh",
    "labels.horizons=[{window_months: 1, dpd_threshold: 60}]",
)
OTHER_RENDERING = (
    "instructions.event_fields=[amount]",
    "instructions.gap_unit=month",
    "instructions.season=weekday",
    "instructions.time=both",
    "instructions.profile=false",
    "agent.context_length=100",
)


@pytest.fixture
def root(tiny_run: FinishedRun, tmp_path: Path) -> Path:
    return copied_lake(tiny_run, tmp_path / "lake")


def rows(root: Path, table: str, **wanted: object) -> pd.DataFrame:
    found: pd.DataFrame = DeltaTable(str(root / "tables" / table)).to_pyarrow_table().to_pandas()
    for column, value in wanted.items():
        found = found.loc[found[column] == value]
    keys = [name for name in ("model_id", "user_id", "sample_id", "split", "slice", "metric") if name in found]
    return found.sort_values(keys).reset_index(drop=True)


def outcome_of(run: Run, step: str) -> Outcome:
    body = {"score_users": score_users, "evaluate_model": evaluate_model, "release_model": release_model}[step]
    return run_step(step, body, run)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(SAME, id="same", marks=pytest.mark.soak),
        pytest.param(OTHER_QUESTION, id="question", marks=pytest.mark.soak),
        pytest.param(OTHER_RENDERING, id="rendering", marks=pytest.mark.soak),
        pytest.param(("instructions.quantiles=8",), id="numbers", marks=pytest.mark.soak),
    ],
)
def test_the_scores_of_the_champion_do_not_depend_on_the_recipe(
    tiny_run: FinishedRun, root: Path, changes: Sequence[str]
) -> None:
    before = rows(root, "behavior_card_scores")
    done = outcome_of(later_run(tiny_run, root, changes), "score_users")
    assert (done.code, done.message) == (0, "")
    after = rows(root, "behavior_card_scores")
    assert done.tables["behavior_card_scores"]["published"] == len(before) > 0
    np.testing.assert_allclose(after["p_bad"], before["p_bad"], rtol=1e-5)
    same = ["model_id", "user_id", "observation_at", "score"]
    pd.testing.assert_frame_equal(after[same], before[same])


@pytest.mark.soak
def test_the_answers_of_the_champion_for_the_gate_are_those_to_its_own_question(
    tiny_run: FinishedRun, root: Path
) -> None:
    run = later_run(tiny_run, root, [*OTHER_QUESTION, *OTHER_RENDERING])
    job = Job(step="evaluate_model", run=run, paths=LakehousePaths.at(str(root)))
    folders = ModelFolders(base=run.take(TrainedBase).folder, adapter=run.take(FinalModel).folder)
    challenger, members = AskedModel.of(PromptSpec.of_recipe(run.recipe), folders), job.sample_source().members(SPLITS)
    ((name, found),) = champion_answers(job, challenger, members, splits=SPLITS, challenger_id="another").items()
    before = rows(root, "evaluation_answers", model_id=name)
    after = found.to_pandas().sort_values(["model_id", "sample_id"]).reset_index(drop=True)
    np.testing.assert_allclose(after["p_bad"], before["p_bad"], rtol=1e-5)
    same = ["model_id", "sample_id", "split", "answer", "miss"]
    pd.testing.assert_frame_equal(after[same], before[same])


def test_a_run_renders_with_its_own_bins_and_one_that_only_scores_with_the_settings_of_the_champion(
    tiny_run: FinishedRun, root: Path
) -> None:
    run = later_run(tiny_run, root, ["instructions.quantiles=8"])
    job = Job(step="build_instructions", run=run, paths=LakehousePaths.at(str(root)))
    current = champion(registry_of(run.recipe))
    assert current is not None
    assert fitted_numbers(job) is None
    assert run_prompts(job) == current.model.asked.prompts == PromptSpec.of_recipe(tiny_run.run.recipe)
    folder = run.artefact_folder(FittedNumbers)
    folder.mkdir(parents=True)
    file = folder / FittedNumbers.FILES[0]
    file.write_text(words_as_text(FITTED))
    run.leave(FittedNumbers(folder=folder, numbers_digest=files_digest({file.name: file})))
    assert run_prompts(job) == PromptSpec.of_recipe(run.recipe, FITTED)
    file.write_text(words_as_text(FITTED).replace("9000", "9001"))
    with pytest.raises(ConfigError, match=r"FittedNumbers\.numbers_digest: expected"):
        run_prompts(job)


def with_event_type(root: Path, name: str, day: Any) -> None:
    """Publishes user_sequences in which one client's last event is of another type."""
    uri = str(root / "tables" / "user_sequences")
    table = DeltaTable(uri).to_pyarrow_dataset().to_table(filter=ds.field("observation_date") == day)
    events = table["events"].combine_chunks()
    flat = events.flatten()
    types = pc.if_else(pa.array([True] + [False] * (len(flat) - 1)), name, flat.field("event_type"))
    fields = [types if field.name == "event_type" else flat.field(field.name) for field in flat.type]
    changed = pa.ListArray.from_arrays(events.offsets, pa.StructArray.from_arrays(fields, fields=list(flat.type)))
    table = table.set_column(table.column_names.index("events"), table.schema.field("events"), changed)
    write_deltalake(uri, table, mode="overwrite", predicate=f"observation_date = '{day}'")


def test_the_base_has_words_for_the_event_types_that_its_source_declares(tiny_run: FinishedRun) -> None:
    declared = declared_event_types(tiny_run.run.recipe)
    encoder = LineEncoder.of(tiny_run.run.take(TrainedBase).folder)
    assert "written_off" in declared  # nothing is written off before the base's cut-off: it takes seven months
    assert all(encoder.knows(event_type) for event_type in declared)


def test_a_champion_whose_tokenizer_lacks_an_event_type_is_rejected_by_name(tiny_run: FinishedRun, root: Path) -> None:
    run = later_run(tiny_run, root, SAME)
    day = run.recipe.observations.score
    with_event_type(root, "bnpl", day)
    run.pin("user_sequences", DeltaTable(str(root / "tables" / "user_sequences")).version())
    before = DeltaTable(str(root / "tables" / "behavior_card_scores")).version()
    done = outcome_of(run, "score_users")
    assert (done.kind, done.code) == ("data", 3)
    assert (
        f"model {evaluated_model(tiny_run.run)} cannot answer: its tokenizer has no words for the event types bnpl"
        in done.message
    )
    assert "train and release a model" in done.action
    assert DeltaTable(str(root / "tables" / "behavior_card_scores")).version() == before


@pytest.mark.soak
@pytest.mark.parametrize("place", ["base", "adapter"])
def test_a_changed_file_of_the_champion_is_rejected_by_name_before_any_client_is_scored(
    tiny_run: FinishedRun, root: Path, place: str
) -> None:
    run = later_run(tiny_run, root, SAME)
    current = champion(registry_of(run.recipe))
    assert current is not None
    file = next(iter(sorted(getattr(current.folders, place).glob("*.safetensors"))))
    assert file.is_relative_to(root)
    weights = load_file(file)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, file, metadata={"format": "pt"})
    done = outcome_of(run, "score_users")
    assert (done.kind, done.code) == ("data", 3)
    assert f"{file}: expected SHA-256" in done.message


def replace_adapter(run: Run) -> None:
    """Another adapter in the run's folder."""
    former = run.take(FinalModel)
    folder = former.folder
    weights = {name: tensor * 0.5 for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    digest = adapter_digest(folder)
    run.leave(
        FinalModel(model_id=model_name(digest), folder=folder, adapter_digest=digest, trained_on=former.trained_on)
    )


@pytest.mark.soak
def test_a_second_model_on_one_dataset_keeps_the_rows_of_the_first_and_is_compared_with_it(
    tiny_run: FinishedRun, root: Path
) -> None:
    run = later_run(tiny_run, root, SAME)
    replace_adapter(run)
    answers, metrics = rows(root, "evaluation_answers"), rows(root, "evaluation_metrics")
    for step in ("evaluate_model", "release_model"):
        done = outcome_of(run, step)
        assert (done.code, done.message) == (0, "")
    first, second = evaluated_model(tiny_run.run), evaluated_model(run)
    assert first != second
    new = [second, run.take(FinalModel).model_id]
    after = rows(root, "evaluation_metrics")
    others = after[~after["model_id"].isin(new)].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, metrics)
    ours = rows(root, "evaluation_metrics", model_id=second)
    theirs = rows(root, "evaluation_metrics", model_id=first)
    undefined_for_a_constant = {"calibration_slope", "calibration_intercept"}
    leads = {f"{LEAD}{part.take(FinalModel).model_id}" for part in (tiny_run.run, run)}
    assert set(ours["metric"]) ^ set(theirs["metric"]) <= undefined_for_a_constant | leads
    assert (ours["metric"] == CHANGE).sum() == 1
    answered = rows(root, "evaluation_answers")
    assert set(answered["model_id"]) == set(after["model_id"]) == {*metrics["model_id"], *new}
    known = answered[~answered["model_id"].isin(new)].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, answers, check_exact=False, rtol=1e-5)
    (row,) = rows(root, "releases", run_id="later").to_dict("records")
    assert (row["model_id"], row["champion_id"]) == (second, first)
    assert any("Against the champion" in reason for reason in row["reasons"])


def test_metrics_json_equals_the_table_under_exported_names(tiny_run: FinishedRun) -> None:
    run = tiny_run.run
    job = Job(step="test", run=run, paths=tiny_run.paths)
    measured = measured_of(job)
    assert measured is not None
    flat = run.metrics()
    for model in measured.models("oot"):
        name = measured.display_name(model)
        for metric in ("auc", "ks", "mcc", "brier", "log_loss"):
            assert flat[f"oot.{metric}.{name}"] == measured.value(model, "oot", metric)
        lead = measured.lead(model, "oot")
        exported = [flat.get(f"oot.auc_lead_of_zigong{end}.{name}") for end in ("", "_low", "_high")]
        assert exported == ([None] * 3 if lead is None else [lead.value, lead.low, lead.high])
    assert flat["select.threshold.zigong"] == measured.value(measured.model_id, "select", "threshold")
    assert not any(LEAD in name for name in flat)


def test_the_card_is_the_weighted_sum_of_the_log_odds_of_model_and_trees(tiny_run: FinishedRun) -> None:
    answers = rows(Path(tiny_run.root), "evaluation_answers").pivot(
        index="sample_id", columns="model_id", values="p_bad"
    )
    released, card = tiny_run.run.take(FusedCard), evaluated_model(tiny_run.run)
    assert released.model_id == card
    eta = (
        released.intercept
        + released.model_weight * logit(answers[released.language_model])
        + released.trees_weight * logit(answers[released.trees])
    )
    np.testing.assert_allclose(logit(answers[card]), eta, rtol=1e-6, atol=1e-9)
    assert released.trees_weight > 0
