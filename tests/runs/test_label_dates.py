"""Labels as of a date: an older one never replaces a newer one, and what cannot be labelled is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.build_labels import build_labels
from jobs.ingest_events import ingest_events
from tests.support.finished import TINY
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.launch import run_step
from zigong.runs.run import Outcome, open_run

pytestmark = pytest.mark.soak

SMALL = ["source.simulation.users=60", "observations.score=null"]


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The events of seven months; no labels."""
    folder = tmp_path_factory.mktemp("labels")
    recipe = load_recipe(TINY, [f"lakehouse.root={folder}", *SMALL])
    assert run_step("ingest_events", ingest_events, open_run(recipe, folder / "_runs", "load")).code == 0
    return folder


def labelled(root: Path, run_id: str, *changes: str, trains: bool = False) -> Outcome:
    recipe = load_recipe(TINY, [f"lakehouse.root={root}", *SMALL, *changes])
    return run_step("build_labels", build_labels, open_run(recipe, root / "_runs", run_id), trains=trains)


def labels(root: Path) -> list[dict[str, object]]:
    paths = LakehousePaths.at(str(root))
    rows: list[dict[str, object]] = arrow_pinned(
        paths, "performance_labels", latest_version(paths, "performance_labels")
    ).to_pylist()
    return sorted(rows, key=lambda row: (str(row["user_id"]), str(row["observation_date"])))


def test_an_older_as_of_keeps_newer_labels_and_warns(root: Path) -> None:
    early = labelled(root, "early", "as_of=2023-05-02")
    assert early.tables["performance_labels"]["published"] > 0
    dates = Counter(str(row["observation_date"]) for row in labels(root))
    assert max(dates) == "2023-05-01"  # T 2023-06-01 is after as_of: its histories would lack events
    assert labelled(root, "night", "as_of=2023-08-02").code == 0
    newest = labels(root)
    assert {str(row["as_of_date"]) for row in newest} == {"2023-08-02"}
    late = labelled(root, "retrain", "as_of=2023-07-01")
    assert (late.code, labels(root)) == (0, newest)
    assert any("labels of 4 observation dates are published as of 2023-08-02" in text for text in late.warnings)
    assert any("became known up to 2023-0" in text and "after as_of 2023-07-01" in text for text in late.warnings)


def test_a_split_of_one_class_is_named_before_anything_is_trained_and_only_warned_of_at_night(root: Path) -> None:
    nobody = ["labels.horizons=[{window_months: 1, dpd_threshold: 9999}]", "as_of=2023-08-03"]
    night = labelled(root, "good-night", *nobody)
    assert night.code == 0
    assert any("split train has" in text and "and 0 bad" in text for text in night.warnings)
    refused = labelled(root, "training", *nobody, trains=True)
    assert (refused.kind, refused.code) == ("data", 3)
    for split in ("train", "target", "select", "oot"):
        assert f"split {split} has " in refused.message


def test_outcome_events_that_never_occur_are_refused_by_name(root: Path, tmp_path: Path) -> None:
    shipped = Path("schemas/sources/simulated.yaml").read_text(encoding="utf-8")
    changed = shipped
    for key in ("outcome_events", "closing_events"):
        line = next(line for line in shipped.splitlines() if line.startswith(f"{key}:"))
        changed = changed.replace(line, f"{key}: [settlement]")
    (tmp_path / "other.yaml").write_text(changed, encoding="utf-8")
    outcome = labelled(root, "typo", f"source.mapping={tmp_path / 'other.yaml'}")
    assert (outcome.kind, outcome.code) == ("data", 3)
    assert "none of outcome_events settlement occurs; the events have the types" in outcome.message


def test_no_observation_date_before_as_of_is_refused(root: Path) -> None:
    outcome = labelled(root, "ancient", "as_of=1990-01-01")
    assert (outcome.kind, outcome.code) == ("config", 2)
    assert "is not after as_of 1990-01-01" in outcome.message
