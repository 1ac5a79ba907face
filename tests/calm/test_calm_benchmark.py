"""The complete benchmark on invented files, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.support.calm_files import write_raw
from zigong.calm.answers import read_answers
from zigong.calm.measures import CLASS_MEASURES, Outcome, figures
from zigong.calm.models import encoded, training_samples
from zigong.calm.prepared import Prepared, prepared
from zigong.calm.task_files import load_task
from zigong.cli import app
from zigong.instructions.encode import LineEncoder
from zigong.tokens.samples import sample_lengths

TASKS = ("german", "travel_insurance")
BAD = {"german": "bad", "travel_insurance": "yes"}


def ran(data: Path, out: Path, *options: str) -> Result:
    command = ["benchmark", "calm", "--data", str(data), "--out", str(out), "--seeds", "1", *options]
    return CliRunner().invoke(app, command)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calm")
    write_raw("german", folder, 150)
    write_raw("travel_insurance", folder, 750, seed=1, bad_share=0.2)
    return folder


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    found = ran(data, folder, "--no-example")
    assert found.exit_code == 0, found.output
    return folder


def ready(data: Path, name: str) -> Prepared:
    return prepared(load_task(name), data, numbers="bands", example=False)


def test_every_model_beats_the_majority_where_the_features_tell_the_answer(out: Path) -> None:
    found = json.loads((out / "calm.json").read_text("utf-8"))
    for task in TASKS:
        for model in ("per_task.choices", "multi_task.choices", "logistic", "lightgbm"):
            assert found[f"calm.{task}.{model}.auc"] > 0.8, (task, model)
        assert found[f"calm.{task}.majority.auc"] == 0.5
        for way in ("per_task.generated", "multi_task.generated"):
            assert found[f"calm.{task}.{way}.miss"] <= 0.1, (task, way)
    assert found["calm.german.paper.accuracy"] == 0.59
    assert found["calm_rows"] == 8
    assert all(isinstance(value, int | float) for value in found.values())


def test_the_figures_are_those_of_the_stored_answers(out: Path) -> None:
    found = json.loads((out / "calm.json").read_text("utf-8"))
    for file in (out / "calm/answers").glob("*/*.json"):
        model, _, seed = file.stem.rpartition("-")
        of_answers = figures(Outcome.of(read_answers(file), load_task(file.parent.name)))
        assert seed == "20"
        for measure in CLASS_MEASURES:
            assert found[f"calm.{file.parent.name}.{model}.{measure}"] == pytest.approx(of_answers[measure])
            low, high = (found[f"calm.{file.parent.name}.{model}.{measure}_{end}"] for end in ("low", "high"))
            assert low <= of_answers[measure] <= high
    assert len(list((out / "calm/answers").glob("*/*.json"))) == len(TASKS) * 7


def test_the_table_has_a_line_per_model_with_the_papers_last(out: Path) -> None:
    lines = (out / "calm.md").read_text("utf-8").splitlines()
    german = [line.split("|")[2].strip() for line in lines if line.startswith("| German |")]
    assert german == [
        *("per_task.choices", "per_task.generated", "multi_task.choices", "multi_task.generated"),
        *("majority", "logistic", "lightgbm", "paper"),
    ]
    assert "| .590 | .587 |" in next(line for line in lines if "| German | paper |" in line)


def test_a_prompt_fits_the_context_of_its_base_and_its_words_are_known(out: Path, data: Path) -> None:
    for task in TASKS:
        folder = out / f"calm/models/per_task-{task}-20/base"
        encoder, own = LineEncoder.of(folder), ready(data, task)
        context = json.loads((folder / "config.json").read_text("utf-8"))["max_position_embeddings"]
        assert sample_lengths(training_samples([own], encoder)).max() < context
        prompts = [own.form.prompt(record.values) for record in own.train]
        assert all(encoder.knows(prompt) for prompt in prompts)
        fields = len(own.task.features)
        # instruction, record and its two cues; every field is one token
        assert {len(encoded(encoder, prompt)) for prompt in prompts} == {1 + 1 + fields + 1}


def test_training_samples_carry_the_answers_and_repeat_the_rarer_label(out: Path, data: Path) -> None:
    own = ready(data, "travel_insurance")
    encoder = LineEncoder.of(out / "calm/models/multi_task-german-travel_insurance-20/base")
    samples = training_samples([ready(data, "german"), own], encoder)
    of_travel = np.array([name.startswith("travel") for name in samples.sample_id])
    labels = samples.label[of_travel]
    assert of_travel.sum() == len(own.train)
    assert labels.sum() == (labels == 0).sum() // 2
    assert [record.truth == BAD["travel_insurance"] for record in own.train] == labels.astype(bool).tolist()


def test_a_named_base_is_tuned_on_numbers_as_written(out: Path, data: Path, tmp_path: Path) -> None:
    base = out / "calm/models/per_task-german-20/base"
    found = ran(data, tmp_path, "--tasks", "german", "--base", str(base), "--per-task")
    assert found.exit_code == 0, found.output
    figures_found = json.loads((tmp_path / "calm.json").read_text("utf-8"))
    assert figures_found["calm_rows"] == 2
    assert "calm.travel_insurance.paper.f1" not in figures_found
    assert not list((tmp_path / "calm").glob("models/*/base"))


def test_missing_files_and_unknown_tasks_are_refused(data: Path, tmp_path: Path) -> None:
    for options, expected in (
        (("--tasks", "australia"), "australian.dat does not exist"),
        (("--tasks", "taiwan"), "found 'taiwan'"),
        (("--tasks", "german", "--base", str(tmp_path)), "tokenizer"),
    ):
        found = ran(data, tmp_path / "out", *options)
        assert found.exit_code == 2
        assert expected in found.output.replace("\n", "")
    found = ran(tmp_path, tmp_path / "out")
    assert found.exit_code == 2
    assert "holds none of german.data" in found.output.replace("\n", "")
