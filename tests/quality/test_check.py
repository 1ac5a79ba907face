"""Published tables are evaluated on demand, and drift is measured against a pinned reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from tests.support.points import CELLS, GOOD, POINTS, job_at, points
from zigong.cli import app
from zigong.console import CONSOLE

DRIFT = "arrears_are_stable"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONSOLE, "width", 200)


def late(spark: SparkSession, days: int) -> DataFrame:
    """Forty clients with days past due spread over ten days from ``days`` on."""
    number = F.substring("user_id", 2, 2).cast("int")
    return points(spark, GOOD).withColumn("days_past_due", (days + number % 10).cast("int"))


def command(root: Path, *words: str) -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["quality", *words, "--root", str(root)])
    return answer.exit_code, answer.output


def drift_of(root: Path, run_id: str) -> dict[str, object]:
    content = json.loads((root / "_runs" / run_id / "quality" / "verdicts" / f"{POINTS}.json").read_text())
    (found,) = (item for item in content["results"] if item["rule"] == DRIFT)
    return {"verdict": content["verdict"], "passed": found["passed"], "note": found["note"]}


@pytest.mark.soak
def test_drift_is_reported_against_the_pinned_reference_and_does_not_block(spark: SparkSession, tmp_path: Path) -> None:
    for run_id, days in (("first", 0), ("same", 0), ("shifted", 20)):
        job_at(tmp_path, run_id).publish(POINTS, late(spark, days), cells=CELLS)
    passed = {"verdict": "passed", "passed": True}
    assert drift_of(tmp_path, "first") == {**passed, "note": "no reference is pinned"}
    assert drift_of(tmp_path, "same") == {**passed, "note": ""}
    assert drift_of(tmp_path, "shifted") == {"verdict": "passed", "passed": False, "note": ""}

    code, output = command(tmp_path, "pin", POINTS, "--run-id", "shifted")
    assert (code, "40 rows in" in output) == (0, True)
    job_at(tmp_path, "again").publish(POINTS, late(spark, 20), cells=CELLS)
    assert drift_of(tmp_path, "again") == {**passed, "note": ""}


@pytest.mark.soak
def test_the_check_of_a_manually_changed_table_fails_and_names_the_rule(spark: SparkSession, tmp_path: Path) -> None:
    job = job_at(tmp_path, "first")
    job.publish(POINTS, late(spark, 0), cells=CELLS)
    code, output = command(tmp_path, "check", POINTS, "--run-id", "first")
    assert code == 0, output
    assert "key_is_unique" in output

    late(spark, 0).limit(1).write.format("delta").mode("append").save(job.paths.table(POINTS))
    job.run.pin(POINTS, 2)
    code, output = command(tmp_path, "check", POINTS, "--run-id", "first")
    assert code == 3
    assert "key_is_unique: expected at most 0, observed 1" in " ".join(output.split())


@pytest.mark.parametrize(("words", "message"), [(("check", "nothing"), "no table"), (("pin", "releases"), "psi")])
@pytest.mark.usefixtures("spark")
def test_a_table_that_cannot_be_evaluated_is_rejected_by_name(
    tmp_path: Path, words: tuple[str, str], message: str
) -> None:
    job_at(tmp_path, "first")
    code, output = command(tmp_path, *words, "--run-id", "first")
    assert (code, message in output) == (2, True)
