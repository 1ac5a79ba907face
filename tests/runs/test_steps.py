"""Which steps a recipe runs, and for which dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.finished import TINY
from zigong.errors import ConfigError
from zigong.pipeline import STEPS, Step
from zigong.recipe import Recipe, load_recipe
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.runs.steps import steps_of


def without(recipe: Recipe, fields: tuple[str, ...]) -> Recipe:
    """The recipe with fields, such as ``base.tiny`` or ``refit``, not set."""
    for field in fields:
        section, _, name = field.partition(".")
        part = getattr(recipe, section).model_copy(update={name: None}) if name else None
        recipe = recipe.model_copy(update={section: part})
    return recipe


@pytest.mark.parametrize("step", [step for step in STEPS if step.only_with], ids=lambda step: step.name)
def test_a_step_is_skipped_exactly_if_its_recipe_field_is_not_set(step: Step) -> None:
    recipe = load_recipe(TINY, ["refit={}", "instructions.quantiles=8"])
    assert steps_of(recipe) == STEPS
    assert steps_of(without(recipe, step.only_with)) == tuple(other for other in STEPS if other != step)


@pytest.mark.parametrize("end", ["2023-03-02", "2023-03-05"], ids=["reversed", "empty"])
def test_a_range_without_a_date_is_refused_by_both_dates_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    def body(_: Job) -> None:
        raise AssertionError("the step must not run")

    given = ["--recipe", str(TINY), "--set", f"lakehouse.root={tmp_path / 'lake'}", "--from-date", "2023-03-05"]
    with pytest.raises(SystemExit) as ended:
        main("ingest_events", body, [*given, "--to-date", end])
    assert ended.value.code == ConfigError.exit_code
    assert f"--from-date 2023-03-05 is not before --to-date {end}" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "lake").exists()
