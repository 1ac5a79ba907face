"""Two attempts of one run at one table: one commit, and the one that lost the run ends in a conflict."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.points import CELLS, POINTS, points, put
from zigong.errors import ConflictError
from zigong.lakehouse import publish as publishing
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.commits import own_commits
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.published import Published
from zigong.lakehouse.staging import leftovers
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.runs.lease import take_lease

FIRST, SECOND = ["a1", "a2"], ["b1", "b2", "b3"]


def users(root: Path) -> list[str]:
    paths = LakehousePaths.at(str(root))
    return sorted(arrow_pinned(paths, POINTS, latest_version(paths, POINTS))["user_id"].to_pylist())


def test_a_former_attempt_that_wakes_up_before_its_commit_leaves_the_later_ones_rows(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "_runs" / "one"
    promote = publishing._promote

    def asleep_before(*arguments: object) -> Published:
        monkeypatch.setattr(publishing, "_promote", promote)
        with take_lease(run, "build_labels", expiry_seconds=0.2) as later:
            held = Attempt(token=later.token, require_held=later.require_held)
            put(spark, tmp_path, points(spark, SECOND), "one", attempt=held)
        return promote(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(publishing, "_promote", asleep_before)
    with take_lease(run, "build_labels", beat_seconds=1000) as former:
        attempt = Attempt(token=former.token, require_held=former.require_held)
        with pytest.raises(ConflictError, match="has taken over as attempt 2"):
            put(spark, tmp_path, points(spark, FIRST), "one", attempt=attempt)
    assert users(tmp_path) == SECOND
    assert len(own_commits(LakehousePaths.at(str(tmp_path)), POINTS, "one")) == 1
    assert leftovers(LakehousePaths.at(str(tmp_path)), POINTS) == []


def test_delta_refuses_the_commit_of_a_former_attempt_that_slept_through_every_check(
    spark: SparkSession, tmp_path: Path
) -> None:
    put(spark, tmp_path, points(spark, SECOND), "one", attempt=Attempt(token=2))
    with pytest.raises(ConflictError, match="attempt 2 of run one has taken over from attempt 1"):
        put(spark, tmp_path, points(spark, FIRST), "one", attempt=Attempt(token=1), again=True)
    assert users(tmp_path) == SECOND


def test_a_retry_finds_the_commit_of_its_run_and_a_rerun_replaces_it(spark: SparkSession, tmp_path: Path) -> None:
    first = put(spark, tmp_path, points(spark, FIRST), "one", attempt=Attempt(token=1))
    retried = put(spark, tmp_path, points(spark, SECOND), "one", attempt=Attempt(token=2))
    assert (retried.version, users(tmp_path)) == (first.version, FIRST)
    again = put(spark, tmp_path, points(spark, SECOND), "one", attempt=Attempt(token=3, rerun=1))
    assert again.version > first.version
    assert users(tmp_path) == SECOND
    retried = put(spark, tmp_path, points(spark, FIRST), "one", attempt=Attempt(token=4, rerun=1))
    assert (retried.version, retried.cells, users(tmp_path)) == (again.version, CELLS, SECOND)
