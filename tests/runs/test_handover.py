"""The values passed between steps: declared in the pipeline, read back unchanged, and refused if changed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.finished import REPOSITORY, TINY, FinishedRun
from zigong.cli import app
from zigong.errors import ConfigError
from zigong.files.digests import files_digest
from zigong.pipeline import STEPS
from zigong.recipe import load_recipe
from zigong.runs.handover import VALUES, Agent, Dataset, FinalModel, GateDecision, InfluenceScores, TrainedBase
from zigong.runs.run import Run, list_runs, open_run
from zigong.runs.steps import steps_of
from zigong.runs.stored_values import step_leaving
from zigong.runs.value import Value

DATASET = Dataset(dataset_id="d1", repeated_samples="none")
DECISION = GateDecision(decision="refused", reasons=("KS is too low", "AUC is too low"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return opened(tmp_path)


def opened(root: Path) -> Run:
    return open_run(load_recipe(TINY, [f"lakehouse.root={root}"]), root / "_runs", "mine")


def made_agent(run: Run) -> Agent:
    folder = run.artefact_folder(Agent)
    folder.mkdir(parents=True)
    (folder / "checkpoints.json").write_text("{}")
    return Agent(folder=folder, checkpoints_digest=files_digest({"checkpoints.json": folder / "checkpoints.json"}))


def edit(run: Run, **values: Any) -> None:
    """Writes values into the manifest by hand."""
    manifest = run.manifest()
    manifest["values"].update(values)
    (run.folder / "manifest.json").write_text(json.dumps(manifest))


def test_every_value_is_left_by_exactly_one_step() -> None:
    left = [name for step in STEPS for name in step.leaves]
    assert sorted(left) == sorted(kind.__name__ for kind in VALUES)


def test_every_value_a_step_takes_is_left_by_an_earlier_step_or_attempt() -> None:
    known: set[str] = set()
    for step in STEPS:
        known |= set(step.leaves)
        assert set(step.takes) <= known, step.name


def test_the_table_in_the_architecture_page_matches_the_list_of_steps() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(tuple(f"| `{step.name}` |" for step in STEPS))]
    named = [[re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:4]] for row in rows]
    wanted = [[[step.name], [*step.takes], [*step.leaves]] for step in STEPS if step.takes or step.leaves]
    assert named == wanted


def test_the_steps_take_and_leave_what_the_pipeline_declares(tiny_run: FinishedRun) -> None:
    steps = steps_of(tiny_run.run.recipe)
    outcomes = {step.name: tiny_run.run.outcome(step.name) for step in steps}
    absent = {"BoostedCard"} if tiny_run.run.recipe.card.boosted is None else set()  # a step may look for it in vain
    found = {
        name: (set(done.takes) - absent, set(done.leaves) - absent)
        for name, done in outcomes.items()
        if done is not None
    }
    assert found == {step.name: (set(step.takes) - absent, set(step.leaves) - absent) for step in steps}


def test_every_artefact_of_a_finished_run_matches_its_digest(tiny_run: FinishedRun) -> None:
    for kind in (TrainedBase, Agent, FinalModel):
        assert tiny_run.run.take(kind).folder == tiny_run.run.artefact_folder(kind)


@pytest.mark.parametrize("value", [DATASET, DECISION, InfluenceScores(scorer_id="s", warnings=())])
def test_a_value_is_read_back_unchanged(run: Run, value: Value) -> None:
    run.leave(value)
    assert run.take(type(value)) == value
    assert run.values() == (value,)


def test_an_artefact_moves_with_the_folder_of_its_run(run: Run, tmp_path: Path) -> None:
    agent = made_agent(run)
    run.leave(agent)
    assert run.manifest()["values"]["Agent"]["folder"] == "artifacts/agent"
    moved = Run(run_id="mine", folder=run.folder.rename(tmp_path / "elsewhere"))
    assert moved.take(Agent) == replace(agent, folder=tmp_path / "elsewhere/artifacts/agent")


@pytest.mark.parametrize("kind", VALUES)
def test_a_missing_value_names_the_step_that_writes_it_and_the_command(run: Run, kind: type[Value]) -> None:
    step = step_leaving(kind)
    assert run.find(kind) is None
    with pytest.raises(ConfigError, match=rf"run mine has no {kind.__name__} yet: step {step} writes it") as caught:
        run.take(kind)
    assert f"--run-id mine --until {step}" in caught.value.action


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dataset_id": "d1"}, r"Dataset\.repeated_samples: Field required"),
        ({"dataset_id": "d1", "repeated_samples": "none", "more": 1}, r"Dataset\.more: Unexpected .*found 1"),
        ({"dataset_id": 7, "repeated_samples": "none"}, r"Dataset\.dataset_id: .*valid string, found 7"),
        ({"dataset_id": "", "repeated_samples": "none"}, r'Dataset\.dataset_id: .*at least 1 character, found ""'),
        ("d1", r"Dataset: .*found \"d1\""),
    ],
)
def test_an_invalid_value_is_refused_with_run_field_and_content(run: Run, content: object, message: str) -> None:
    edit(run, Dataset=content)
    for read in (run.take, run.find):
        with pytest.raises(ConfigError, match=rf"run mine: {message}"):
            read(Dataset)


def test_an_unknown_decision_of_the_gate_is_refused(run: Run) -> None:
    edit(run, GateDecision={"decision": "maybe", "reasons": []})
    with pytest.raises(ConfigError, match=r"GateDecision\.decision: .*'released' or 'refused', found \"maybe\""):
        run.find(GateDecision)


def test_a_malformed_digest_is_refused(run: Run) -> None:
    edit(run, Agent={"folder": "artifacts/agent", "checkpoints_digest": "abc"})
    with pytest.raises(ConfigError, match=r"Agent\.checkpoints_digest: .*found \"abc\""):
        run.find(Agent)


@pytest.mark.parametrize("folder", ["../other/artifacts/agent", "/"])
def test_a_folder_outside_the_run_is_refused(run: Run, folder: str) -> None:
    edit(run, Agent={"folder": folder, "checkpoints_digest": "0" * 64})
    with pytest.raises(ConfigError, match=rf"Agent\.folder: expected a folder of the run, found {folder}"):
        run.find(Agent)


def test_changed_files_are_refused_with_both_digests(run: Run) -> None:
    agent = made_agent(run)
    run.leave(agent)
    (agent.folder / "checkpoints.json").write_text('{"eta": 1}')
    with pytest.raises(ConfigError, match=rf"Agent\.checkpoints_digest: expected {agent.checkpoints_digest}, found "):
        run.take(Agent)


def test_the_record_of_an_artefact_is_readable_without_its_files(run: Run) -> None:
    agent = made_agent(run)
    run.leave(agent)
    (agent.folder / "checkpoints.json").unlink()
    with pytest.raises(ConfigError, match=r"Agent\.checkpoints_digest: expected"):
        run.take(Agent)
    agent.folder.rmdir()
    with pytest.raises(ConfigError, match=rf"Agent\.folder: expected files in {agent.folder}, found no such folder"):
        run.take(Agent)
    assert run.find(Agent) == agent


def test_a_run_with_an_older_manifest_is_listed_and_refused_with_its_version(run: Run, tmp_path: Path) -> None:
    manifest = run.manifest()
    former = {key: content for key, content in manifest.items() if key not in {"values", "schema_version"}}
    (run.folder / "manifest.json").write_text(json.dumps({**former, "facts": {"dataset_id": "d1"}}))
    message = r"run mine was made by another version: its manifest\.json has schema version 1, this version reads 3"
    for refused in (lambda: run.find(Dataset), lambda: run.leave(DATASET), lambda: opened(tmp_path)):
        with pytest.raises(ConfigError, match=message):
            refused()
    listed = CliRunner().invoke(app, ["runs", "ls", "--json", "--root", str(tmp_path)])
    assert [row["outcome"] for row in json.loads(listed.stdout)] == ["of another version"]
    assert [item.pinned_version("behavior_events") for item in list_runs(tmp_path / "_runs")] == [None]
