"""A hundred users are erased from a finished run despite a crash, and no new run or backfill restores them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from tests.support.finished import FinishedRun, finish
from zigong.cli import app
from zigong.errors import InfraError
from zigong.lakehouse.erasures import Erasure, erasures
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.card_values import FusedCard
from zigong.runs.dates import Dates
from zigong.runs.handover import FinalModel
from zigong.runs.launch import run_step
from zigong.runs.runner import execute, load_body, start

pytestmark = pytest.mark.soak
USERS = 100


@dataclass(frozen=True, kw_only=True)
class Erased:
    """A finished run of which users were erased, and the raw files of before."""

    finished: FinishedRun
    record: Erasure
    raw_files: Path
    user_ids: frozenset[str]
    output: str


def user_ids_of(run: FinishedRun, table: str) -> set[str]:
    rows = arrow_pinned(run.paths, table, latest_version(run.paths, table), columns=["user_id"])
    return set(rows["user_id"].to_pylist())


@pytest.fixture(scope="module")
def erased(spark: SparkSession, local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Erased:
    home = tmp_path_factory.mktemp("erase")
    (home / "lakehouse").mkdir()
    done = finish(home / "lakehouse", "first")
    (landing,) = (home / "lakehouse" / "_landing").iterdir()
    raw_files = home / "raw"
    shutil.copytree(landing, raw_files)
    raw = pc.unique(ds.dataset(raw_files / "events.parquet").to_table(["user_key"])["user_key"]).sort()
    file = home / "users.txt"
    file.write_text("\n".join(raw.slice(0, USERS).to_pylist()) + "\n")
    before = user_ids_of(done, "behavior_events")
    command = ["erase", "--users", str(file), "--root", done.root, "--verify", "--retrain-days", "10"]
    with pytest.MonkeyPatch.context() as patch:

        def no_disk(*_: object) -> None:
            raise InfraError("the disk is gone", action="try again")

        patch.setattr("zigong.erasure.files.erase_staging", no_disk)
        assert CliRunner().invoke(app, command).exit_code == InfraError.exit_code
    (stopped,) = erasures(Path(done.root))
    assert not stopped.completed_at
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    (record,) = erasures(Path(done.root))
    gone = frozenset(before - user_ids_of(done, "behavior_events"))
    return Erased(finished=done, record=record, raw_files=raw_files, user_ids=gone, output=answer.output)


def test_the_erasure_is_complete_and_verified_after_a_crash(erased: Erased) -> None:
    assert len(erased.user_ids) == USERS
    assert erased.record.completed_at
    assert "verified" in erased.output
    counted = {table for table, rows in erased.record.rows.items() if rows}
    assert counted >= {
        "behavior_events", "user_profiles", "observation_points", "performance_labels", "user_sequences",
        "instruction_samples", "behavior_features", "dataset_members", "influence_scores", "training_mix",
        "evaluation_answers", "behavior_card_scores",
    }  # fmt: skip
    assert {"removed", "rewritten"} <= erased.record.files.keys()
    assert not list(Path(erased.finished.root, "_erasures").glob("*.keys"))


def test_the_model_is_listed_with_its_replacement_date(erased: Erased) -> None:
    run, listed = erased.finished.run, {model.model_id: model for model in erased.record.models}
    assert len(listed) == 3  # the language model, the card that contains it, and the joint one
    assert run.take(FinalModel).model_id in listed
    model = listed[run.take(FusedCard).model_id]
    assert model.run_id == "first"
    assert 0 < model.trained_on <= model.pretrained_on <= USERS
    answer = CliRunner().invoke(app, ["runs", "ls", "--json", "--root", erased.finished.root])
    (row,) = [row for row in json.loads(answer.stdout) if row["run_id"] == "first"]
    assert row["retrain_by"] == model.retrain_by > erased.record.requested_at[:10]


def test_a_run_older_than_the_erasure_is_refused(erased: Erased) -> None:
    answer = CliRunner().invoke(app, ["run", str(erased.finished.recipe_file), "--run-id", "first"])
    printed = " ".join(answer.output.split())
    assert answer.exit_code == 2, printed
    assert erased.record.erasure_id in printed


def test_neither_a_new_run_nor_a_backfill_restores_erased_users(erased: Erased) -> None:
    content = load_recipe(erased.finished.recipe_file)
    source = content.source.model_copy(update={"path": str(erased.raw_files), "simulation": None})
    recipe = content.model_copy(update={"source": source})
    again = start(recipe, "again")
    for _, outcome, _ in execute(again, until="build_sequences"):
        assert outcome.code == 0, outcome.message
    known = again.outcome("ingest_events")
    assert known is not None
    assert known.tables["behavior_events"]["dropped"]["erased"] > 0
    backfill = start(recipe, "backfill")
    range_ = Dates(first=date(2023, 2, 1), end=date(2023, 4, 1))
    outcome = run_step("ingest_events", load_body("ingest_events"), backfill, range_)
    assert outcome.code == 0, outcome.message
    assert outcome.tables["behavior_events"]["dropped"]["erased"] > 0
    for table in ("behavior_events", "user_profiles", "observation_points", "user_sequences"):
        assert not user_ids_of(erased.finished, table) & erased.user_ids, table
    (landing,) = Path(erased.finished.root, "_landing").iterdir()
    kept = ds.dataset(landing / "events.parquet").to_table(["user_key"])["user_key"]
    raw = ds.dataset(erased.raw_files / "events.parquet").to_table(["user_key"])["user_key"]
    assert pc.count_distinct(kept).as_py() == pc.count_distinct(raw).as_py() - USERS
