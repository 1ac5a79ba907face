"""A range of dates without a day is refused before a step does anything."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.support.finished import TINY
from zigong.recipe import load_recipe
from zigong.runs.dates import Dates
from zigong.runs.job import Job, runs_folder
from zigong.runs.launch import run_step
from zigong.runs.run import open_run


@pytest.mark.parametrize(
    ("first", "end", "wrong"),
    [(date(2023, 3, 3), date(2023, 3, 3), "is empty"), (date(2023, 3, 5), date(2023, 3, 2), "is reversed")],
)
def test_an_empty_or_reversed_range_ends_as_config_error_that_names_both_dates(
    tmp_path: Path, first: date, end: date, wrong: str
) -> None:
    recipe = load_recipe(TINY, [f"lakehouse.root={tmp_path}"])
    started: list[Job] = []

    outcome = run_step(
        "ingest_events", started.append, open_run(recipe, runs_folder(recipe), "r"), Dates(first=first, end=end)
    )

    assert (outcome.kind, outcome.code, started) == ("config", 2, [])
    assert f"{wrong}: --from-date {first} is not before --to-date {end}" in outcome.message


def test_a_range_of_one_day_or_without_an_end_is_accepted() -> None:
    for dates in (Dates(first=date(2023, 3, 3), end=date(2023, 3, 4)), Dates(first=date(2023, 3, 3)), Dates()):
        dates.require_a_day()
