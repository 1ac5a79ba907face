"""The steps that a recipe needs."""

from __future__ import annotations

from operator import attrgetter

from zigong.pipeline import STEPS, Step
from zigong.recipe import Recipe


def steps_of(recipe: Recipe) -> tuple[Step, ...]:
    """The steps a recipe needs: no base is trained if it names one, no scoring without a score date."""
    return tuple(
        step
        for step in STEPS
        if not step.only_with or any(attrgetter(field)(recipe) is not None for field in step.only_with)
    )
