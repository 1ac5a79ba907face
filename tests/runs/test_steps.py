"""Which steps a recipe runs."""

from __future__ import annotations

import pytest

from tests.support.finished import TINY
from zigong.pipeline import STEPS, Step
from zigong.recipe import Recipe, load_recipe
from zigong.runs.steps import steps_of


def without(recipe: Recipe, field: str) -> Recipe:
    """The recipe with a field, such as ``base.tiny``, not set."""
    section, name = field.split(".")
    part = getattr(recipe, section).model_copy(update={name: None})
    return recipe.model_copy(update={section: part})


@pytest.mark.parametrize("step", [step for step in STEPS if step.only_with], ids=lambda step: step.name)
def test_a_step_is_skipped_exactly_if_its_recipe_field_is_not_set(step: Step) -> None:
    recipe = load_recipe(TINY)
    assert step.only_with is not None
    assert steps_of(recipe) == STEPS
    assert steps_of(without(recipe, step.only_with)) == tuple(other for other in STEPS if other != step)
