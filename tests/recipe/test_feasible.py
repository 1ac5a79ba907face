"""What cannot work is refused before anything runs: as_of against dates and windows, and the embargo."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.finished import REPOSITORY, TINY
from zigong.cli import app
from zigong.errors import ConfigError
from zigong.recipe import Recipe, load_recipe
from zigong.recipe.feasible import require_feasible
from zigong.runs.runner import start


@pytest.mark.parametrize("file", sorted(REPOSITORY.glob("recipes/*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_recipe_is_feasible_and_only_from_its_last_observation_date_on(file: Path) -> None:
    recipe = load_recipe(file)
    require_feasible(recipe)
    observed = recipe.observations
    last = max(day for day in (*observed.dates(), observed.score) if day is not None)
    with pytest.raises(ConfigError, match="has T"):
        require_feasible(load_recipe(file, [f"as_of={last - timedelta(days=1)}"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["as_of=1990-01-01"], r"observations\.train has T 2023-03-01, but nothing known from as_of 1990-01-01"),
        (["as_of=2023-07-31"], r"observations\.score has T 2023-08-01"),
        (
            ["as_of=2023-06-30", "observations.score=null"],
            r"observations\.oot: no label can be mature .* is 2023-07-01",
        ),
        (["observations.oot={first: 2023-08-01, last: 2023-08-01}"], r"observations\.oot: no label .* is 2023-09-01"),
        (["instructions.counted_attributes=[channel, note]"], r"counted_attributes: note: .* declared: age, category"),
    ],
)
def test_what_cannot_work_is_refused_by_plan_and_by_run(overrides: list[str], message: str, tmp_path: Path) -> None:
    settings = [f"lakehouse.root={tmp_path}", *overrides]
    with pytest.raises(ConfigError, match=message):
        start(load_recipe(TINY, settings), None)
    sets = [argument for setting in settings for argument in ("--set", setting)]
    assert CliRunner().invoke(app, ["plan", str(TINY), *sets]).exit_code == 2
    assert not (tmp_path / "_runs").exists()


def test_the_day_on_which_the_last_label_is_mature_is_enough() -> None:
    score = "observations.score=2023-06-30"
    require_feasible(load_recipe(TINY, ["as_of=2023-07-01", score]))
    with pytest.raises(ConfigError, match=r"observations\.oot: no label can be mature .* is 2023-07-01"):
        require_feasible(load_recipe(TINY, ["as_of=2023-06-30", score]))


def test_the_embargo_counts_the_reporting_lag() -> None:
    """The label of T 2023-04-01 is known on 2023-05-01 without a lag; with one, validation would begin before it."""
    load_recipe(TINY)
    with pytest.raises(ConfigError, match=r"observations\.train \(2023-04-01 \+ 1 months \+ 1 days\) reaches into"):
        load_recipe(TINY, ["labels.reporting_lag_days=1"])
    gap = ["observations.train.last=2023-03-01", "observations.oot={first: 2023-07-01, last: 2023-07-01}"]
    load_recipe(TINY, ["labels.reporting_lag_days=30", *gap])
    with pytest.raises(ConfigError, match="reaches into"):
        load_recipe(TINY, ["labels.reporting_lag_days=31", *gap])


def test_a_further_horizon_needs_a_label_that_trains_and_one_that_calibrates_it() -> None:
    def labelled(months: int, *settings: str) -> Recipe:
        horizons = f"labels.horizons=[{{window_months: 1}}, {{window_months: {months}}}]"
        return load_recipe(TINY, [horizons, *settings])

    later = ["observations.oot={first: 2023-07-01, last: 2023-07-01}", "as_of=2023-09-01"]
    require_feasible(labelled(2, *later))  # of train only T 2023-03-01 can be used
    with pytest.raises(ConfigError, match=r"no label of 2m30dpd in observations\.validation .* mature on 2023-07-01"):
        require_feasible(labelled(2))
    with pytest.raises(ConfigError, match=r"no label of 3m30dpd in observations\.train .* mature on 2023-06-01"):
        require_feasible(labelled(3, *later))


def test_a_run_without_the_key_of_the_pseudonyms_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZIGONG_USER_KEY", raising=False)
    monkeypatch.setattr("zigong.recipe.user_key._taken", {})  # another test of this process may have had one
    with pytest.raises(ConfigError, match="ZIGONG_USER_KEY must hold a secret"):
        start(load_recipe(TINY, [f"lakehouse.root={tmp_path}", "lakehouse.key=env"]), None)
