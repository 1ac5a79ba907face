"""The output of errors: one clear message, the exit code of its kind, and an outcome.json."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner, Result

from tests.support.finished import REPOSITORY, TINY
from zigong.cli import app
from zigong.errors import ConfigError
from zigong.recipe import load_recipe
from zigong.recipe.source import PUBLISHED_KEY, lakehouse_key, source_mapping

CREDIT = REPOSITORY / "recipes" / "credit_record.yaml"
PROFILE_COLUMNS = (
    "ID,CODE_GENDER,FLAG_OWN_CAR,FLAG_OWN_REALTY,CNT_CHILDREN,AMT_INCOME_TOTAL,NAME_INCOME_TYPE,NAME_EDUCATION_TYPE,"
    "NAME_FAMILY_STATUS,NAME_HOUSING_TYPE,DAYS_BIRTH,DAYS_EMPLOYED,FLAG_MOBIL,FLAG_WORK_PHONE,FLAG_PHONE,FLAG_EMAIL,"
    "OCCUPATION_TYPE,CNT_FAM_MEMBERS"
)


def zigong(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def printed(result: Result) -> str:
    return " ".join((result.output + (result.stderr if result.stderr_bytes else "")).split())


def outcome(root: Path, run_id: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((root / "_runs" / run_id / "outcome.json").read_text())
    return content


def credit_files(folder: Path, header: str, rows: list[str]) -> None:
    folder.mkdir()
    for name, lines in (("credit_record", [header, *rows]), ("application_record", [PROFILE_COLUMNS])):
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", str(TINY), "--set", "agent.lerning_rate=1"], "agent.lerning_rate: unknown key"),
        (["plan", "nowhere.yaml"], "recipe nowhere.yaml does not exist"),
        (["run", str(TINY), "--set", "source.mapping=bnpl.yaml"], "'bnpl.yaml' is neither a shipped mapping"),
        (["plan", str(TINY), "--set", "source.mapping=bnpl.yaml"], "'bnpl.yaml' is neither a shipped mapping"),
        (["report", "nothing", "--root", "/nonexistent"], "no run nothing"),
    ],
)
def test_a_wrong_configuration_ends_with_exit_code_2(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    program = subprocess.run(
        [sys.executable, "-c", "from zigong.cli import app; app()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "300"},
    )
    assert program.returncode == 2
    assert message in program.stderr
    assert "next:" in program.stderr
    assert "Traceback" not in program.stderr


def test_the_error_for_a_missing_source_folder_names_it_and_the_next_action(
    tmp_path: Path, spark: SparkSession
) -> None:
    result = zigong("run", str(CREDIT), "--run-id", "x", "--set", f"lakehouse.root={tmp_path}")
    assert result.exit_code == 2
    assert outcome(tmp_path, "x") == outcome(tmp_path, "x") | {
        "kind": "config",
        "code": 2,
        "message": "source.path is missing: mapping credit_record reads raw files",
        "action": "use --set source.path=FOLDER with the folder of the raw files",
    }


def test_a_missing_file_and_a_wrong_column_are_named(tmp_path: Path, spark: SparkSession) -> None:
    for run_id, header, message in (("f", None, "credit_record.csv.gz"), ("c", "ID,MONTH,STATUS", "MONTHS_BALANCE")):
        folder = tmp_path / f"raw_{run_id}"
        credit_files(folder, header or "ID", ["1,0,X"])
        if header is None:
            (folder / "credit_record.csv.gz").unlink()
        root = tmp_path / "lake"
        overrides = ["--set", f"lakehouse.root={root}", "--set", f"source.path={folder}"]
        result = zigong("run", str(CREDIT), "--run-id", run_id, *overrides)
        assert result.exit_code == 3
        assert outcome(root, run_id)["kind"] == "data"
        assert message in str(outcome(root, run_id)["message"])


@pytest.mark.soak
def test_a_delivery_of_bad_rows_is_blocked_with_the_observed_share(tmp_path: Path, spark: SparkSession) -> None:
    """Every status is unknown: all raw rows go to quarantine, and nothing is published."""
    credit_files(tmp_path / "raw", "ID,MONTHS_BALANCE,STATUS", ["1,0,Z", "1,-1,Z"])
    root = tmp_path / "lake"
    overrides = ["--set", f"lakehouse.root={root}", "--set", f"source.path={tmp_path / 'raw'}"]
    result = zigong("run", str(CREDIT), "--run-id", "r", *overrides)
    assert result.exit_code == 3
    ended = outcome(root, "r")
    assert "source credit_record: 2 of 2 raw rows do not fit the mapping" in str(ended["message"])
    assert ended["tables"]["raw_credit_record"]["quarantined"] == 2  # type: ignore[index]


def test_a_run_id_reused_with_another_recipe_is_refused(tmp_path: Path) -> None:
    root = f"lakehouse.root={tmp_path}"
    program = [sys.executable, "-m", "jobs.mix_samples", "--recipe", str(TINY), "--set", root, "--run-id", "mine"]
    environment = {**os.environ, "COLUMNS": "300"}
    first = subprocess.run(program, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment)
    assert first.returncode == 2
    assert "run mine has no Dataset yet: step build_dataset writes it" in first.stderr
    again = subprocess.run(
        [*program, "--set", "seed=99"], capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment
    )
    assert again.returncode == 2
    assert "run id mine belongs to recipe digest" in again.stderr


def test_the_error_for_missing_java_names_what_to_install(tmp_path: Path) -> None:
    command = ["-m", "jobs.ingest_events", "--recipe", str(TINY), "--set", f"lakehouse.root={tmp_path}"]
    environment = {key: value for key, value in os.environ.items() if key != "JAVA_HOME"}
    program = subprocess.run(
        [sys.executable, *command, "--run-id", "j"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**environment, "PATH": str(tmp_path), "COLUMNS": "300"},
    )
    assert program.returncode == 5
    ended = outcome(tmp_path, "j")
    assert (ended["kind"], ended["retryable"]) == ("infra", True)
    assert "Java is missing" in str(ended["message"])
    assert "openjdk-17-jre-headless" in str(ended["action"])


def test_a_private_source_refuses_the_published_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shipped = (REPOSITORY / "schemas/sources/simulated.yaml").read_text(encoding="utf-8")
    private = tmp_path / "private.yaml"
    private.write_text(shipped.replace("data: simulated", "data: private"), encoding="utf-8")
    changes = [f"lakehouse.root={tmp_path}", f"source.mapping={private}"]
    with pytest.raises(ConfigError, match="published is no secret"):
        source_mapping(load_recipe(TINY, changes))
    recipe = load_recipe(TINY, [*changes, "lakehouse.key=env"])
    assert source_mapping(recipe).data == "private"
    monkeypatch.setenv("ZIGONG_USER_KEY", PUBLISHED_KEY)
    with pytest.raises(ConfigError, match="must hold a secret"):
        lakehouse_key(recipe)
    monkeypatch.setenv("ZIGONG_USER_KEY", "a-secret-of-this-lender")
    assert lakehouse_key(recipe) == b"a-secret-of-this-lender"
