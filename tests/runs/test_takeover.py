"""A new run starts on a finished run's tables and values, where the settings of the steps it skips are equal."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from tests.support.finished import TINY, FinishedRun
from zigong.cli import app
from zigong.errors import ConfigError
from zigong.pipeline import STEPS
from zigong.recipe import Recipe, load_recipe
from zigong.recipe.reference import recipe_keys
from zigong.runs.handover import Agent, Dataset, FinalModel, InfluenceScores, TrainedBase
from zigong.runs.run import Outcome, Run, open_run
from zigong.runs.steps import steps_of
from zigong.runs.takeover import FIRST_READERS, first_reader, former_run

NAMES = [step.name for step in steps_of(load_recipe(TINY))]


def recipe_at(root: Path, *changes: str) -> Recipe:
    return load_recipe(TINY, [f"lakehouse.root={root}", *changes])


def former_at(root: Path, *, finished: int = len(NAMES)) -> Run:
    """A run whose first steps have ended."""
    run = open_run(recipe_at(root), root / "_runs", "former")
    ended = Outcome(
        step="", kind="ok", code=0, retryable=False, message="", action="", seconds=1.0,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    for name in NAMES[:finished]:
        run.write_outcome(replace(ended, step=name))
    return run


@pytest.mark.parametrize(
    ("change", "reader"),
    [
        ("split.test_share=0.2", "build_base"),
        ("instructions.season=none", "build_base"),
        ("source.simulation.users=500", "ingest_events"),
        ("as_of=2023-08-03", "build_labels"),
        ("instructions.max_events=20", "build_sequences"),
        ("instructions.currency=EUR", "build_sequences"),
        ("agent.context_length=256", "build_instructions"),
        ("agent.epochs=2", "train_agent"),
        ("gate.min_mcc=0.1", "release_model"),
    ],
)
def test_a_setting_that_a_skipped_step_reads_is_named_with_the_step_to_start_from(
    tmp_path: Path, change: str, reader: str
) -> None:
    former_at(tmp_path)
    changed = recipe_at(tmp_path, change)
    assert former_run(changed, "former", reader).run_id == "former"
    later = NAMES[NAMES.index(reader) + 1]
    with pytest.raises(ConfigError) as refused:
        former_run(changed, "former", later)
    assert f"{change.partition('=')[0]} (there " in refused.value.message
    assert f"read by {reader}" in refused.value.message
    assert f"--from-step {reader}" in refused.value.action


def test_limits_of_engines_may_differ_and_unknown_keys_may_not(tmp_path: Path) -> None:
    former_at(tmp_path)
    assert former_run(recipe_at(tmp_path, "engine.ray_cpus=4"), "former", NAMES[-1])
    assert first_reader("a_new_section.key") == "ingest_events"
    assert set(FIRST_READERS.values()) <= {step.name for step in STEPS}
    for key in recipe_keys():
        assert first_reader(key.path) in {None, *(step.name for step in STEPS)}, key.path


def test_an_unfinished_or_unknown_run_or_step_is_refused_by_name(tmp_path: Path) -> None:
    former_at(tmp_path, finished=4)
    recipe = recipe_at(tmp_path)
    assert former_run(recipe, "former", "build_base")
    with pytest.raises(ConfigError, match="has not finished build_base"):
        former_run(recipe, "former", "build_instructions")
    with pytest.raises(ConfigError, match="--like nobody: no such run"):
        former_run(recipe, "nobody", "build_base")
    with pytest.raises(ConfigError, match="--from-step nothing: no such step"):
        former_run(recipe, "former", "nothing")


def test_a_run_starts_on_another_s_tables_values_and_files(
    tiny_run: FinishedRun, spark: SparkSession, tmp_path: Path
) -> None:
    root, run_id = tmp_path / "lake", tiny_run.run_id
    shutil.copytree(tiny_run.root, root)
    arguments = ["--set", f"lakehouse.root={root}", "--run-id", "like", "--like", run_id, "--from-step", "mix_samples"]
    arguments += ["--set", "mix.fraction=0.25", "--until", "mix_samples"]
    answer = CliRunner().invoke(app, ["run", str(tiny_run.recipe_file), *arguments])
    assert answer.exit_code == 2
    assert "mix.fraction (there 0.5, here 0.25; read by score_influence)" in " ".join(answer.output.split())
    assert not (root / "_runs" / "like").exists()

    arguments[arguments.index("mix.fraction=0.25")] = "finetune.epochs=3"
    answer = CliRunner().invoke(app, ["run", str(tiny_run.recipe_file), *arguments])
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("done before") == NAMES.index("mix_samples")
    run, former = Run(run_id="like", folder=root / "_runs" / "like"), tiny_run.run
    for kind in (TrainedBase, Dataset, Agent, InfluenceScores):
        copied, original = vars(run.take(kind)), vars(former.take(kind))
        assert {**copied, "folder": None} == {**original, "folder": None}
    assert run.find(FinalModel) is None
    tables = run.manifest()["tables"]
    for table in ("behavior_events", "dataset_members", "influence_scores"):
        assert tables[table] == former.manifest()["tables"][table]
    assert "evaluation_metrics" not in tables
    outcome = json.loads((run.folder / "steps" / "ingest_events" / "outcome.json").read_text())
    assert outcome["message"] == f"taken over from run {run_id}"
    figures = run.metrics()
    assert figures["agent.samples"] == former.metrics()["agent.samples"]
    assert not any(name.startswith(("oot.", "gate.", "seconds.evaluate")) for name in figures)
