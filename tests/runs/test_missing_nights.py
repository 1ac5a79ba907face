"""Nights that were never ingested are named, and covered or refused; two ingests of a night are named as well."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.finished import TINY
from zigong.cli import app
from zigong.errors import DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import load_recipe
from zigong.runs.dates import Dates
from zigong.runs.job import Job
from zigong.runs.known_dates import cover_missing_nights, require_ingested
from zigong.runs.nights import nights_of, record_nights, spans_text
from zigong.runs.run import open_run

SOURCE = "shop"


def march(day: int) -> date:
    return date(2024, 3, day)


def ingested(root: Path, first: int | None, end: int, run_id: str) -> None:
    dates = Dates(first=march(first) if first else None, end=march(end))
    paths = LakehousePaths.at(str(root))
    record_nights(paths, source=SOURCE, run_id=run_id, attempt=1, dates=dates, end=march(end))


def job(root: Path, first: int, end: int, *changes: str, schedule: str | None = "daily") -> Job:
    overrides = [f"lakehouse.root={root}", "observations.score=null", f"as_of={march(end)}", *changes]
    recipe = load_recipe(TINY, overrides)
    run = open_run(recipe, root / "_runs", f"night-{first}-{len(changes)}-{schedule}")
    dates = Dates(first=march(first), end=march(end))
    return Job(step="s", run=run, paths=LakehousePaths.at(str(root)), dates=dates, schedule=schedule)


def test_after_a_complete_load_every_night_is_expected_and_gaps_and_duplicates_are_named(tmp_path: Path) -> None:
    assert nights_of(LakehousePaths.at(str(tmp_path)), SOURCE) is None
    ingested(tmp_path, None, 10, "load")
    for first, end, run_id in ((10, 11, "a"), (13, 14, "b"), (13, 15, "c"), (17, 18, "d"), (2, 4, "history")):
        ingested(tmp_path, first, end, run_id)
    found = nights_of(LakehousePaths.at(str(tmp_path)), SOURCE)
    assert found is not None
    assert (found.begin, found.end) == (march(10), march(18))
    assert found.missing == tuple(march(day) for day in (11, 12, 15, 16))
    assert found.doubled == {march(13): ("b", "c")}
    answer = CliRunner().invoke(app, ["nights", "ls", "--root", str(tmp_path), "--json"])
    assert answer.exit_code == 3
    (listed,) = json.loads(answer.stdout)
    assert listed["missing"] == ["2024-03-11", "2024-03-12", "2024-03-15", "2024-03-16"]
    shown = CliRunner().invoke(app, ["nights", "ls", "--root", str(tmp_path)])
    assert shown.exit_code == 3
    assert spans_text(found.missing) == "2024-03-11 to 2024-03-12, 2024-03-15 to 2024-03-16"


def test_a_night_covers_the_failed_ones_immediately_before_it(tmp_path: Path) -> None:
    ingested(tmp_path, None, 10, "load")
    ingested(tmp_path, 10, 11, "a")
    night = job(tmp_path, 13, 14)
    cover_missing_nights(night, SOURCE)
    assert night.dates == Dates(first=march(11), end=march(14))
    assert night.warnings == [
        "source shop: 2024-03-11 to 2024-03-12 had never been ingested; this night ingests them as well"
    ]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [([], "2024-03-11"), (["source.missing_nights=refuse"], "2024-03-11, 2024-03-13")],
)
def test_what_a_night_may_not_or_cannot_cover_is_refused(tmp_path: Path, changes: list[str], missing: str) -> None:
    ingested(tmp_path, None, 11, "load")
    ingested(tmp_path, 12, 13, "a")
    with pytest.raises(DataError, match=f"known dates were never ingested: {missing};"):
        cover_missing_nights(job(tmp_path, 14, 15, *changes), SOURCE)
    by_hand = job(tmp_path, 14, 15, *changes, schedule=None)
    cover_missing_nights(by_hand, SOURCE)
    assert by_hand.dates.first == march(14)


def test_labels_are_not_built_over_a_hole_nor_by_a_schedule_before_its_night(tmp_path: Path) -> None:
    ingested(tmp_path, None, 10, "load")
    for first in (10, 11):
        ingested(tmp_path, first, first + 1, f"n{first}")
    require_ingested(job(tmp_path, 11, 12), SOURCE)
    require_ingested(job(tmp_path, 11, 20, schedule="retrain"), SOURCE)
    with pytest.raises(DataError, match=r"2024-03-12 to 2024-03-14; s as of 2024-03-15 would work without them"):
        require_ingested(job(tmp_path, 11, 15, schedule="score"), SOURCE)
    ingested(tmp_path, 13, 14, "later")
    with pytest.raises(DataError, match="2024-03-12; s as of 2024-03-20"):
        require_ingested(job(tmp_path, 11, 20, schedule="retrain"), SOURCE)
