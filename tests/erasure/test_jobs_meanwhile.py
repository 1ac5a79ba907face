"""Jobs that run while users are erased publish nothing of what they read before, and their runs go on afterwards."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.support.finished import TINY
from tests.support.points import POINTS, points, put
from zigong.erasure.tables import stop_writers
from zigong.erasure.traces import Traces
from zigong.erasure.trained import trained_models
from zigong.erasure.verify import FILES_A_TASK, verify_erased
from zigong.errors import ConfigError, ConflictError
from zigong.files.atomic import write_json
from zigong.lakehouse import committer
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.erasures import Erasure, erasures
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.run import Run, open_run
from zigong.runs.set_back import go_on
from zigong.runs.steps import steps_of

KEY = "ab" * 32


def opened(root: Path, run_id: str = "mine") -> Run:
    return open_run(load_recipe(TINY, [f"lakehouse.root={root}"]), root / "_runs", run_id)


def erasure(root: Path, *, ended: bool, name: str = "erase-1") -> Erasure:
    """Writes the record of an erasure that begins now, and ends now if it does."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    record = Erasure(erasure_id=name, requested_at=now, users=2, users_digest="d", completed_at=now if ended else "")
    write_json(root / "_erasures" / f"{name}.json", asdict(record))
    return record


def test_a_step_that_an_erasure_overtakes_may_not_commit_and_ends_in_a_conflict(tmp_path: Path) -> None:
    run = opened(tmp_path)
    refused: list[ConflictError] = []

    def body(job: Job) -> None:
        job.attempt.require_held()
        erasure(tmp_path, ended=True)
        try:
            job.attempt.require_held()
        except ConflictError as error:
            refused.append(error)
            raise

    outcome = run_step("build_labels", body, run)
    assert (outcome.kind, outcome.retryable, len(refused)) == ("conflict", True, 1)
    assert "erase-1 removed 2 users" in outcome.message


def test_whatever_fails_in_an_overtaken_step_is_a_conflict(tmp_path: Path) -> None:
    def body(job: Job) -> None:
        erasure(tmp_path, ended=True)
        raise FileNotFoundError("a staged file that the erasure has removed")

    assert run_step("build_labels", body, opened(tmp_path)).kind == "conflict"


def test_no_step_begins_while_an_erasure_is_under_way(tmp_path: Path) -> None:
    run = opened(tmp_path)
    erasure(tmp_path, ended=False)
    outcome = run_step("build_labels", lambda _: pytest.fail("it began"), run)
    assert (outcome.kind, "has not ended" in outcome.message, "same users" in outcome.action) == (
        "conflict",
        True,
        True,
    )


def test_an_unfinished_run_is_set_back_once_and_its_steps_run_again(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run_step("ingest_events", lambda job: job.run.pin("behavior_events", 3), run)
    (run.folder / "artifacts").mkdir()
    (run.folder / "artifacts/learned.bin").write_bytes(KEY.encode())
    with pytest.raises(ConflictError, match="has not ended"):
        erasure(tmp_path, ended=False)
        go_on(opened(tmp_path), tmp_path)
    assert run.pinned_version("behavior_events") == 3

    erasure(tmp_path, ended=True)
    for _ in range(2):
        go_on(opened(tmp_path), tmp_path)
    assert run.outcome("ingest_events") is None
    assert run.pinned_version("behavior_events") is None
    assert not (run.folder / "artifacts").exists()
    assert {run.reruns(step.name) for step in steps_of(run.recipe)} == {1}
    assert run_step("ingest_events", lambda _: None, run).kind == "ok"


def test_a_finished_run_is_refused(tmp_path: Path) -> None:
    run = opened(tmp_path)
    for step in steps_of(run.recipe):
        run_step(step.name, lambda _: None, run)
    erasure(tmp_path, ended=True)
    with pytest.raises(ConfigError, match=r"run mine was created at .* before erasure erase-1"):
        go_on(opened(tmp_path), tmp_path)


def test_a_commit_that_has_begun_loses_to_the_mark_of_an_erasure(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = LakehousePaths.at(str(tmp_path))
    put(spark, tmp_path, points(spark, ["before"]), "r0")
    table, write, begun = DeltaTable(paths.table(POINTS)), committer._write, list[int]()

    def is_marked() -> bool:
        table.update_incremental()
        return bool(table.metadata().configuration.get("zigong.erasure") == "erase-1")

    def after_the_mark(*arguments: Any) -> None:
        begun.append(len(begun))
        stop_writers(paths, "erase-1")
        write(*arguments)

    def require_held() -> None:
        if is_marked():
            raise ConflictError("what require_held raises", action="")

    monkeypatch.setattr(committer, "_write", after_the_mark)
    with pytest.raises(ConflictError, match="what require_held raises"):
        put(spark, tmp_path, points(spark, ["after"]), "r1", attempt=Attempt(token=1, require_held=require_held))
    assert begun == [0]
    version = latest_version(paths, POINTS)
    assert arrow_pinned(paths, POINTS, version, columns=["user_id"])["user_id"].to_pylist() == ["before"]


def test_the_model_of_a_run_of_an_older_version_is_known(tmp_path: Path) -> None:
    run = Run(run_id="old", folder=tmp_path / "_runs/old")
    facts = {"model_id": "zigong-1", "dataset_id": "data-1", "scorer_id": "s"}
    write_json(run.folder / "manifest.json", {"run_id": "old", "created_at": "2023-01-01T00:00:00Z", "facts": facts})
    (run.folder / "recipe.json").write_text('{"base": {"tiny": {"hidden": 1}}, "windows": "of another form"}')
    (found,) = trained_models(run)
    assert (found.model_id, found.dataset_id, found.own_base, found.read_before) == ("zigong-1", "data-1", True, None)
    (run.folder / "manifest.json").write_text("{broken")
    assert trained_models(run) == ()


def test_a_run_left_its_final_model_the_card_that_contains_it_and_their_refit(tmp_path: Path) -> None:
    run = Run(run_id="new", folder=tmp_path / "_runs/new")
    values = {
        "Dataset": {"dataset_id": "data-1"},
        "FinalModel": {"model_id": "zigong-1"},
        "FusedCard": {"model_id": "zigong-2"},
        "EvaluatedCard": {"card": "zigong-2", "head": "fused"},
        "RefittedModel": {"model_id": "zigong-3", "refit_of": "zigong-2"},
    }
    write_json(run.folder / "manifest.json", {"run_id": "new", "values": values})
    assert [(model.model_id, model.dataset_id, model.every_split) for model in trained_models(run)] == [
        ("zigong-1", "data-1", False),
        ("zigong-2", "data-1", False),
        ("zigong-3", "data-1", True),
    ]


def test_a_record_with_fields_of_another_version_is_read(tmp_path: Path) -> None:
    known = erasure(tmp_path, ended=True)
    file = tmp_path / "_erasures/erase-1.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["not_found"]
    write_json(file, {**content, "of_a_later_version": 1})
    assert erasures(tmp_path) == [replace(known, not_found=())]


def test_many_files_are_verified_in_several_processes_and_unfinished_ones_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    for number in range(3 * FILES_A_TASK):
        (folder / f"{number}.json").write_text(KEY if number == 100 else "nothing", encoding="utf-8")
    pq.write_table(pa.table({"key": [KEY]}), folder / "held.parquet")
    (folder / "unfinished.parquet").write_bytes(b"PAR1")
    result = verify_erased(LakehousePaths.at(str(tmp_path)), Traces(pseudonyms=frozenset({KEY})))
    assert result.left == {folder / "100.json": 1, folder / "held.parquet": 1}
    assert result.unread == (folder / "unfinished.parquet",)
    assert result.files == 3 * FILES_A_TASK + 1
