"""Two runs are equal exactly where their tables and figures are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner, Result

from tests.support.finished import TINY
from zigong.cli import app
from zigong.lakehouse.commits import replace_rows
from zigong.lakehouse.digest import rows_digest
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version
from zigong.recipe import load_recipe
from zigong.runs.run import open_run

PROFILES = [
    {"user_id": "a", "attributes": [("age", "30"), ("job", "clerk")]},
    {"user_id": "b", "attributes": [("age", "40")]},
]
FIGURES = {"oot.auc.zigong": 0.7, "seconds.train_agent": 3.0, "base.tokens_per_second": 100.0}


def made_run(
    root: Path,
    run_id: str,
    *,
    profiles: Sequence[Mapping[str, Any]] = PROFILES,
    figures: Mapping[str, float] = FIGURES,
    decided_at: datetime = datetime(2024, 1, 1, tzinfo=UTC),
    reasons: Sequence[str] = ("good enough",),
) -> str:
    """A run that published user_profiles and its row of releases in a lakehouse at ``root``."""
    recipe = load_recipe(TINY, [f"lakehouse.root={root}"])
    run, paths = open_run(recipe, root / "_runs", run_id), LakehousePaths.at(str(root))
    moment = {
        "source": "s",
        "valid_from": datetime(2024, 1, 1, tzinfo=UTC),
        "known_at": datetime(2024, 1, 1, tzinfo=UTC),
    }
    rows = [{"person_id": row["user_id"], **moment, **row} for row in profiles]
    release = {
        "run_id": run_id,
        "model_id": "m",
        "decision": "released",
        "reasons": list(reasons),
        "champion_id": None,
        "registry_version": run_id,
        "decided_at": decided_at,
    }
    replace_rows(paths, "user_profiles", rows, where="source = 's'", metadata={"run_id": run_id})
    replace_rows(paths, "releases", [release], where=f"run_id = '{run_id}'", metadata={"run_id": run_id})
    for table in ("user_profiles", "releases"):
        run.pin(table, latest_version(paths, table))
    run.add_metrics(figures)
    return run_id


def compared(first: Path, other: Path, *more: str) -> Result:
    return CliRunner().invoke(
        app, ["runs", "compare", "one", "two", "--root", str(first), "--other-root", str(other), *more]
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Path:
    """The lakehouse of the first run, which every comparison reads."""
    root = tmp_path_factory.mktemp("first")
    made_run(root, "one")
    return root


@pytest.fixture
def two(first: Path, tmp_path: Path) -> tuple[Path, Path]:
    return first, tmp_path / "other"


def test_runs_with_equal_rows_and_figures_are_equal_regardless_of_time_and_speed(two: tuple[Path, Path]) -> None:
    made_run(
        two[1],
        "two",
        profiles=[{**PROFILES[1]}, {"user_id": "a", "attributes": [("job", "clerk"), ("age", "30")]}],
        figures={**FIGURES, "seconds.train_agent": 9.0, "base.tokens_per_second": 7.0},
        decided_at=datetime(2025, 1, 1, tzinfo=UTC),
    )
    result = compared(*two)
    assert result.exit_code == 0, result.output
    assert "the results are equal" in result.output
    assert "excluded: columns run_id, registry_version, created_at, decided_at" in result.output


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"profiles": [PROFILES[0], {"user_id": "b", "attributes": [("age", "41")]}]},
            "table user_profiles: equal number of rows, different content",
        ),
        ({"profiles": [*PROFILES, PROFILES[1]]}, "table user_profiles: 2 rows and 3 rows"),
        ({"reasons": ["other"]}, "table releases: equal number of rows, different content"),
        ({"figures": {**FIGURES, "oot.auc.zigong": 0.7000001}}, "figure oot.auc.zigong: 0.7 and 0.7000001"),
        ({"figures": {**FIGURES, "oot.bad": 3.0}}, "figure oot.bad: None and 3.0"),
    ],
)
def test_the_first_difference_is_named_and_ends_with_exit_code_1(
    two: tuple[Path, Path], change: dict[str, Any], difference: str
) -> None:
    made_run(two[1], "two", **change)
    result = compared(*two)
    assert result.exit_code == 1, result.output
    assert f"first difference: {difference}" in result.output


def test_a_table_that_one_run_lacks_is_a_difference(two: tuple[Path, Path]) -> None:
    made_run(two[1], "two")
    manifest = two[1] / "_runs" / "two" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["tables"]["releases"]
    manifest.write_text(json.dumps(content))
    result = compared(*two, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["first_difference"] == "table releases: only the first run has it"


@pytest.mark.soak
def test_runs_of_one_lakehouse_are_compared_by_their_own_rows_and_versions(tmp_path: Path, spark: SparkSession) -> None:
    made_run(tmp_path, "one")
    made_run(tmp_path, "two")
    made_run(tmp_path, "three", profiles=PROFILES[:1])
    root = ["--root", str(tmp_path)]
    equal = CliRunner().invoke(app, ["runs", "compare", "one", "two", *root])
    assert equal.exit_code == 0, equal.output
    differing = CliRunner().invoke(app, ["runs", "compare", "two", "three", *root])
    assert differing.exit_code == 1
    assert "table user_profiles: 2 rows and 1 rows" in differing.output


def test_an_unknown_run_is_refused_by_name(two: tuple[Path, Path]) -> None:
    made_run(two[1], "another")
    result = compared(*two)
    assert result.exit_code == 2
    assert "no run two" in result.output


def test_a_digest_does_not_depend_on_the_order_of_rows_or_nested_map_entries(spark: SparkSession) -> None:
    def frame(*rows: str) -> Any:
        return spark.sql(" UNION ALL ".join(f"SELECT {row}" for row in rows))

    one = "1 AS id, array(named_struct('a', map('x', 1, 'y', 2))) AS nested, map('k', map('x', 1, 'y', 2)) AS deep"
    same = "1 AS id, array(named_struct('a', map('y', 2, 'x', 1))) AS nested, map('k', map('y', 2, 'x', 1)) AS deep"
    other = "1 AS id, array(named_struct('a', map('y', 1, 'x', 2))) AS nested, map('k', map('x', 1, 'y', 2)) AS deep"
    missing = "1 AS id, array(NULL) AS nested, map('k', NULL) AS deep"
    assert rows_digest(frame(one, missing)) == rows_digest(frame(missing, same))
    assert rows_digest(frame(one, missing)).digest != rows_digest(frame(missing, other)).digest
    assert rows_digest(frame(one, one)).digest != rows_digest(frame(one)).digest


def test_numbers_that_differ_in_their_last_bit_have_different_digests(spark: SparkSession) -> None:
    digests = {rows_digest(spark.createDataFrame([(value,)], "value double")).digest for value in (0.1 + 0.2, 0.3)}
    assert len(digests) == 2
