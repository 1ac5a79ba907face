"""The DAGs, checked inside the schedulers' environment, and what zigong_daily leaves in the lakehouse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEDULERS = REPOSITORY / ".venv-airflow/bin"
ARCHIVE = REPOSITORY / "dist/zigong.zip"
SECRET = "a-secret-that-must-stay-in-the-worker"
OURS = re.compile(r"^(PYTHON|PYSPARK|SPARK|RAY|ZIGONG|AIRFLOW|VIRTUAL_ENV)")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the checks in the schedulers' environment left."""

    code: int
    output: str
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "lake"

    @property
    def airflow_home(self) -> Path:
        return self.folder / "home"

    def outcomes(self, step: str) -> list[dict[str, Any]]:
        files = self.root.glob(f"_runs/zigong_daily-*/steps/{step}/outcome.json")
        return sorted(
            (json.loads(file.read_text("utf-8")) for file in files), key=lambda outcome: str(outcome["started_at"])
        )


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """All checks but that of a night; of zigong_daily only the first step runs."""
    return run_checks(prepared(tmp_path_factory.mktemp("airflow")), "not night", skips="build_.*")


def prepared(folder: Path) -> Path:
    """A folder with a plan and a scheduler's database."""
    if not (SCHEDULERS / "airflow").is_file() or not ARCHIVE.is_file():
        pytest.fail(".venv-airflow or dist/zigong.zip is missing: run `make airflow-env dist`")
    compile_plan(folder / "plan.json", folder / "lake")
    (folder / "home").mkdir()
    migrate = [str(SCHEDULERS / "airflow"), "db", "migrate"]
    subprocess.run(migrate, env=scheduler_environment(folder), check=True, capture_output=True)
    return folder


def run_checks(folder: Path, chosen: str, *, skips: str = "") -> Checked:
    """Runs the checks whose names ``chosen`` selects in the schedulers' environment.

    Args:
        folder: a prepared folder.
        chosen: an expression of ``pytest -k``.
        skips: pattern of the steps of zigong_daily that only count as done.
    """
    checks = [
        str(SCHEDULERS / "python"),
        "-m",
        "pytest",
        "-q",
        "--noconftest",
        "-c",
        os.devnull,
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*checks, "--rootdir", str(folder), "-k", chosen, str(REPOSITORY / "tests/dags/airflow_checks.py")],
        check=False,
        env={**scheduler_environment(folder), "CHECKED_SKIPS": skips},
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=580,
    )
    return Checked(code=done.returncode, output=done.stdout, folder=folder)


def compile_plan(file: Path, root: Path) -> None:
    smallest = [
        "--set",
        "source.simulation.users=40",
        "--set",
        "refit={}",
        "--set",
        "instructions.quantiles=8",
        "--set",
        f"lakehouse.root={root}",
    ]
    command = [
        str(Path(sys.executable).with_name("zigong")),
        "compile",
        "tests/tiny.yaml",
        *smallest,
        "--output",
        str(file),
    ]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)


def scheduler_environment(folder: Path) -> dict[str, str]:
    home = folder / "home"
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return {
        **kept,
        "PYTHONPATH": str(ARCHIVE),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "airflow_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "ZIGONG_PLAN": str(folder / "plan.json"),
        "ZIGONG_HOME": str(REPOSITORY),
        "ZIGONG_PYTHON": sys.executable,
        "ZIGONG_USER_KEY": SECRET,
        "CHECKED_NIGHT": "2023-03-27T04:00:00+08:00",
        # One compiler saves half of the processor time of short runs, given enough memory for compiled code.
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m",
    }


def test_every_check_in_the_schedulers_environment_passes(checked: Checked) -> None:
    assert checked.code == 0, checked.output[-20_000:]


def test_the_first_step_of_zigong_daily_publishes_the_rows_its_outcome_counts(checked: Checked) -> None:
    require_published(checked, "ingest_events", ["user_profiles"])


@pytest.mark.soak
def test_every_step_of_zigong_daily_publishes_the_rows_its_outcome_counts(tmp_path: Path) -> None:
    ended = run_checks(prepared(tmp_path), "zigong_daily")
    assert ended.code == 0, ended.output[-20_000:]
    require_published(ended, "ingest_events", ["user_profiles"])
    require_published(ended, "build_labels", ["observation_points", "performance_labels"])
    require_published(ended, "build_sequences", ["user_sequences"])


def require_published(checked: Checked, step: str, tables: Sequence[str]) -> None:
    outcome = checked.outcomes(step)[0]
    assert outcome["kind"] == "ok"
    assert outcome["arguments"] == {"from_date": None, "to_date": None}
    for table in tables:
        rows = DeltaTable(str(checked.root / "tables" / table)).to_pyarrow_dataset().count_rows()
        assert rows == outcome["tables"][table]["published"] > 0


@pytest.mark.soak
def test_a_night_ingests_the_known_date_before_it(checked: Checked) -> None:
    ended = run_checks(checked.folder, "night")
    assert ended.code == 0, ended.output[-20_000:]
    load, night = checked.outcomes("ingest_events")
    assert night["arguments"] == {"from_date": "2023-03-26", "to_date": "2023-03-27"}
    events = night["tables"]["behavior_events"]
    assert events["published"] == 0, "everything was loaded before"
    assert events["dropped"]["repetition"] > 0
    assert events["rows_in"] == events["outside"] + sum(events["dropped"].values())
    rows = DeltaTable(str(checked.root / "tables/behavior_events")).to_pyarrow_dataset().count_rows()
    assert rows == load["tables"]["behavior_events"]["published"]


def test_the_pseudonym_key_is_only_in_the_workers_environment(checked: Checked) -> None:
    """Neither the database (DAGs, XCom, rendered fields) nor a log or a file of a run holds it."""
    folders = (checked.airflow_home, checked.root / "_runs")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]


def test_compile_names_the_lakehouse_and_the_time_zone(tmp_path: Path) -> None:
    compile_plan(tmp_path / "plan.json", tmp_path / "lake")
    plan = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert (plan["root"], plan["timezone"]) == (str(tmp_path / "lake"), "Asia/Shanghai")
