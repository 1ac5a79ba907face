"""Every situation under shared/cases that is no single delivery gives the right value of its README."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import great_expectations as gx
import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from scipy.special import expit
from typer.testing import CliRunner

from jobs.build_labels import build_labels
from schemas.mappings import load_mapping
from tests.support.finished import REPOSITORY, TINY
from tests.support.given_cases import CASES, MARKS, Case
from tests.support.stored import everything_on
from tests.support.tiny_models import LORA, make_agent_settings, make_base, make_samples
from tests.support.tiny_models import TINY as TINY_BASE
from zigong.cli import app
from zigong.errors import ConfigError
from zigong.evaluation.answers import answer_prompts
from zigong.evaluation.held_out import Published, held_out_figures
from zigong.evaluation.measured import ModelFigures
from zigong.lakehouse.commits import own_commits
from zigong.lakehouse.maintain import maintain, pins
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version, published_tables
from zigong.quality.suite import evaluated, open_context
from zigong.quality.verdict import RuleResult, Verdict
from zigong.recipe import Card, Evaluation, FinalTraining, load_recipe
from zigong.release.points import points_figures, points_quality
from zigong.runs.dates import Dates
from zigong.runs.handover import DatasetVerdict
from zigong.runs.launch import run_step
from zigong.runs.run import open_run
from zigong.runs.runner import execute, start
from zigong.training.adapters import load_adapted
from zigong.training.trainer import train_adapter

SPLITS = ("select", "oot")
pytestmark = [*MARKS, pytest.mark.usefixtures("spark")]


@pytest.fixture(scope="module")
def leaky(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run up to its dataset, whose profiles know the outcome."""
    root = tmp_path_factory.mktemp("leaky")
    settings = [f"lakehouse.root={root}", f"source.mapping={CASES / '11-leaking-profile/mapping.yaml'}"]
    run = start(load_recipe(TINY, settings), "leaky")
    for _, outcome, _ in execute(run, until="validate_samples"):
        assert outcome.code == 0, outcome.message
    return run


def drafted(folder: Path, *files: str) -> str:
    names = [str(CASES / file) for file in files]
    answer = CliRunner().invoke(app, ["source", "new", *names, "--name", "x", "--output", str(folder / "x.yaml")])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_06_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    for number, name in enumerate(("bom.csv", "bomq.csv", "bom.jsonl")):
        folder = tmp_path / str(number)
        folder.mkdir()
        drafted(folder, f"06-bom/{name}")
        (file,) = load_mapping(folder / "x.yaml").files
        assert file.columns[0].name == "ID"


def test_11_an_attribute_that_knows_the_outcome_is_an_alarm_of_dataset_gate_and_audit(leaky: Any) -> None:
    alarms = leaky.take(DatasetVerdict).alarms
    assert any("recovery_fee" in text for text in alarms), alarms
    audit = CliRunner().invoke(app, ["audit-leakage", "leaky", "--root", leaky.recipe.lakehouse.root])
    assert audit.exit_code == 0, audit.output
    assert "not proven: that the source's known_at is true; an event or a profile dated too early" in audit.output


def test_16_and_39_drafts_skip_notes_and_take_what_identifies_for_identifiers(tmp_path: Path) -> None:
    (tmp_path / "note").mkdir()
    assert "skip_lines" in drafted(tmp_path / "note", "16-header-inside/note.csv")
    (note,) = load_mapping(tmp_path / "note/x.yaml").files
    assert (note.skip_lines, note.columns[0].name) == (1, "id")
    folder = "39-draft-misses-identifiers"
    for place, files, named in (
        ("bank", ("transactions.csv", "loans.csv"), {"client", "number", "loan"}),
        ("other", ("other.csv",), {"Kunde", "Customer", "borrower", "Mobile", "E-Mail", "msisdn", "card", "Name"}),
    ):
        (tmp_path / place).mkdir()
        drafted(tmp_path / place, *(f"{folder}/{file}" for file in files))
        columns = [column for file in load_mapping(tmp_path / place / "x.yaml").files for column in file.columns]
        assert named <= {column.name for column in columns if column.identifier}


@pytest.mark.parametrize("seconds_apart", [0, 4])
def test_19_of_two_processes_on_one_run_id_one_publishes_once(tmp_path: Path, seconds_apart: float) -> None:
    case = CASES / "21-empty-interval"
    sets = [f"lakehouse.root={tmp_path}", f"source.path={case}", "source.simulation=null"]
    sets += [f"source.mapping={case / 'mapping.yaml'}", "engine.spark_driver_memory=1g"]
    command = [sys.executable, "-m", "jobs.ingest_events", "--recipe", str(TINY), "--run-id", "one"]
    command += [argument for item in sets for argument in ("--set", item)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    first = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    time.sleep(seconds_apart)
    second = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    assert sorted((first.wait(), second.wait())) == [0, 4]
    assert len(own_commits(LakehousePaths.at(str(tmp_path)), "behavior_events", "one")) == 1


def test_20_a_stale_as_of_is_warned_of_and_takes_no_label_back(leaky: Any) -> None:
    root = leaky.recipe.lakehouse.root
    paths = LakehousePaths.at(root)
    settings = [f"lakehouse.root={root}", f"source.mapping={leaky.recipe.source.mapping}"]

    def labels(day: str, schedule: str | None) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        recipe = load_recipe(TINY, [*settings, "observations.score=null", f"as_of={day}"])
        run = open_run(recipe, Path(root) / "_runs", f"labels-{day}")
        outcome = run_step("build_labels", build_labels, run, schedule=schedule)
        assert outcome.code == 0, outcome.message
        rows = arrow_pinned(paths, "performance_labels", latest_version(paths, "performance_labels")).to_pylist()
        return sorted(rows, key=str), tuple(outcome.warnings)

    august, _ = labels("2023-08-02", None)
    later, warnings = labels("2023-07-01", "retrain")
    assert later == august
    for words in (
        "days old, and what became known since is not used",
        "are published as of 2023-08-02",
        "after as_of 2023-07-01",
    ):
        assert any(words in text for text in warnings), warnings


def test_21_a_range_without_a_day_is_refused_with_both_dates() -> None:
    for first, end in ((date(2023, 3, 3), date(2023, 3, 3)), (date(2023, 3, 5), date(2023, 3, 2))):
        with pytest.raises(ConfigError, match=f"{first} is not before --to-date {end}"):
            Dates(first=first, end=end)


def test_22_old_files_of_pinned_versions_stay_readable(leaky: Any) -> None:
    root = Path(leaky.recipe.lakehouse.root)
    old = time.time() - 30 * 86_400
    for file in (file for file in (root / "tables").rglob("*") if file.is_file()):
        os.utime(file, (old, old))
    assert CliRunner().invoke(app, ["maintain", "--root", str(root)]).exit_code == 0
    paths = LakehousePaths.at(str(root))
    for table, version in leaky.manifest()["tables"].items():
        assert len(arrow_pinned(paths, table, version)) >= 0
    assert CliRunner().invoke(app, ["audit-leakage", "leaky", "--root", str(root)]).exit_code == 0


def test_23_maintenance_beside_a_publish_removes_nothing_that_is_being_written(tmp_path: Path) -> None:
    case, end = Case("21-empty-interval/mapping.yaml"), threading.Event()
    assert case.ingested(tmp_path, run_id="warm").outcome.kind == "ok"
    paths, rounds = LakehousePaths.at(str(tmp_path)), []

    def loop() -> None:
        while not end.wait(0.05):
            manifests = [json.loads(file.read_text()) for file in (tmp_path / "_runs").glob("*/manifest.json")]
            for table in published_tables(paths):
                maintain(paths, table, pins(manifests).get(table, ()), retain_hours=0, dry_run=False)
            rounds.append(1)

    beside = threading.Thread(target=loop)
    beside.start()
    try:
        for number in range(3):
            found = case.ingested(tmp_path, run_id=f"run{number}")
            assert found.outcome.kind == "ok", found.outcome.message
            assert (len(found.rows()), len(found.rows("user_profiles"))) == (6, 6)
    finally:
        end.set()
        beside.join()
    assert len(rounds) > 2


def test_24_a_rule_that_gx_leaves_out_or_that_observed_nothing_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdict(*observed: float | None) -> Verdict:
        plain: dict[str, Any] = {"severity": "block", "fingerprint": "f", "low": None, "high": 0.0, "passed": True}
        rules = [
            RuleResult(rule=f"r{place}", value=one, observed=one, note="", description="", **plain)
            for place, one in enumerate(observed)
        ]
        return Verdict(kept=1, refused=0, results=evaluated(open_context(tmp_path / "q"), "t", rules, run_id="r"))

    assert verdict(0.0, 0.0).passed
    assert [verdict(one, 0.0).passed for one in (5.0, None, float("nan"), float("inf"))] == [False] * 4
    run = gx.Checkpoint.run

    def without_the_first(self: Any, **arguments: Any) -> Any:
        done = run(self, **arguments)
        (outcome,) = done.run_results.values()
        outcome.results = [item for item in outcome.results if item.expectation_config.kwargs["column"] != "r0"]
        return done

    monkeypatch.setattr(gx.Checkpoint, "run", without_the_first)
    assert not verdict(5.0, 0.0).passed
    assert not verdict(0.0, 0.0).passed


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_25_a_step_has_the_same_samples_however_it_is_divided(tmp_path: Path, engine: str) -> None:
    base, samples = make_base(tmp_path / "base"), make_samples(128, seed=5)
    plain = {"lora": LORA, "learning_rate": 0.02, "warmup_steps": 0, "context_length": 64, "schedule": "constant"}
    losses = []
    for batch_size, accumulation in ((32, 1), (8, 4), (2, 16)):
        divided = {"engine": engine, "batch_size": batch_size, "accumulation": accumulation, "epochs": 2}
        settings, seen = FinalTraining.model_validate({**plain, **divided}), list[float]()
        folder = tmp_path / str(batch_size)

        def keep(_step: int, _steps: int, loss: float, seen: list[float] = seen) -> None:
            seen.append(loss)

        train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=folder, progress=keep)
        losses.append(seen)
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[2] == pytest.approx(losses[0], abs=1e-5)


def test_26_an_answer_does_not_depend_on_the_prompts_beside_it(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tiny=TINY_BASE.model_copy(update={"context_length": 512}))
    plain = make_agent_settings(1).model_dump(exclude={"checkpoints"}) | {"epochs": 6}
    adapter, samples = tmp_path / "adapter", make_samples(24)
    train_adapter(base, samples, FinalTraining.model_validate(plain), seed=1, torch_threads=1, folder=adapter)
    model, draw = load_adapted(base, adapter).get_base_model(), np.random.default_rng(1)
    short = [draw.integers(3, 23, size).astype(np.int32) for size in (1, 7, 12, 33)]
    long = [draw.integers(3, 23, 400).astype(np.int32) for _ in range(3)]
    names = [str(place) for place in range(7)]
    for choices in ([[24], [23]], [[24, 5], [23]], [[24, 5, 6], [24, 7], [23, 4]]):
        alone = [answer_prompts(model, ["x"], [one], choices, batch_tokens=10_000)["p_bad"][0].as_py() for one in short]
        for more in ({"batch_tokens": 100_000}, {"batch_tokens": 1}, {"batch_tokens": 100_000, "owners": ["a"] * 7}):
            found = answer_prompts(model, names, short + long, choices, **more)["p_bad"].to_pylist()[:4]
            assert found == pytest.approx(alone, rel=1e-6)


def test_27_the_released_points_are_measured_and_many_at_one_end_are_warned_of() -> None:
    draw, size = np.random.default_rng(0), 20_000
    risk = draw.normal(size=size)
    for logit, card in ((risk * 6 - 14, Card()), (risk * 0.8 - 3, Card(pdo=1))):
        p = expit(logit)
        labels = (draw.random(size) < p).astype(int)
        names = [f"c{place}" for place in range(size)]
        members = pa.table(
            {"sample_id": names, "user_id": names, "split": ["select", "oot"] * (size // 2), "label": labels}
        )
        published, few = Published.of(members, {"m": p}), Evaluation(bootstrap=5)
        figures = held_out_figures(members, published, final="m", splits=SPLITS, unit="user_id", settings=few, seed=1)
        figures += points_figures(members, p, model_id="m", splits=SPLITS, card=card)
        measured = {(item.model_id, item.split, item.metric): item for item in figures}
        found = points_quality(ModelFigures(model_id="m", figures=measured), "oot")
        assert found is not None
        if card.pdo == 1:
            assert (found.auc < found.p_auc - 0.005, found.ks < found.p_ks) == (True, True)
        else:
            assert any("999" in text for text in found.warnings), found.warnings


def commands(name: str, root: Path) -> Iterator[list[str]]:
    """A check and an ingest of a mapping in processes of their own."""
    case = CASES / "31-log-shows-raw-cell"
    yield [str(Path(sys.executable).parent / "zigong"), "source", "check", str(case / name), "--path", str(case)]
    sets = [f"lakehouse.root={root}", f"source.path={case}", f"source.mapping={case / name}", "source.simulation=null"]
    job = [sys.executable, "-m", "jobs.ingest_events", "--recipe", str(TINY), "--run-id", "one", "--set"]
    yield [*job, "lakehouse.key=env", *(argument for item in sets for argument in ("--set", item))]


@pytest.mark.parametrize("name", ["mapping.yaml", "sqlcast.yaml"])
def test_31_no_stream_or_file_of_a_process_quotes_a_raw_cell(tmp_path: Path, name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ZIGONG_USER_KEY": "a-secret-of-sixteen-letters"}
    for command in commands(name, tmp_path / "lake"):
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 3, done.stderr
        assert "SecretJohnDoe" not in done.stdout + done.stderr
    assert "SecretJohnDoe" not in everything_on(tmp_path)


def test_35_a_night_leaves_the_profiles_that_it_does_not_deliver(tmp_path: Path) -> None:
    case = Case("35-night-erases-profiles/mapping.yaml")
    assert case.ingested(tmp_path, run_id="full", folder=case.file.parent / "full").outcome.kind == "ok"
    night = Dates(first=date(2023, 3, 11), end=date(2023, 3, 12))
    found = case.ingested(tmp_path, run_id="night", folder=case.file.parent / "night", dates=night)
    assert found.outcome.kind == "ok", found.outcome.message
    assert len({row["user_id"] for row in found.rows("user_profiles")}) == 3
    assert len(found.rows()) == 7
