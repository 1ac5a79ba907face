"""What a recipe cannot reach, found before anything runs."""

from __future__ import annotations

from datetime import date

from zigong.errors import ConfigError
from zigong.recipe.recipe import Recipe
from zigong.recipe.sections import Horizon
from zigong.recipe.source import counted_attributes


def require_feasible(recipe: Recipe) -> None:
    """Checks ``as_of`` against the observation dates and the windows of their labels.

    Raises:
        ConfigError: an observation date lies after ``as_of``, no label of a split can be mature by then, or as
            ``counted_attributes``.
    """
    observed = recipe.observations
    splits = {"train": observed.train, "validation": observed.validation, "oot": observed.oot}
    named = {f"observations.{name}": dates.dates() for name, dates in splits.items() if dates is not None}
    scored = {"observations.score": (observed.score,)} if observed.score is not None else {}
    for name, dates in {**named, **scored}.items():
        late = [day for day in dates if day > recipe.as_of]
        if late:
            raise ConfigError(
                f"{name} has T {late[0]}, but nothing known from as_of {recipe.as_of} on exists for the run: its "
                "histories would lack events",
                action=f"set as_of to {max(dates)} or later, or end {name} earlier",
            )
    for name, dates in named.items():
        _require_mature(recipe, name, dates)
    for horizon in recipe.labels.further:
        _require_usable(recipe, horizon)
    if recipe.instructions.counted_attributes:
        counted_attributes(recipe)


def _require_mature(recipe: Recipe, name: str, dates: tuple[date, ...]) -> None:
    horizon, lag = recipe.labels.horizons[0], recipe.labels.reporting_lag_days
    first = recipe.labels.matures(dates[0], horizon)
    if first > recipe.as_of:
        raise ConfigError(
            f"{name}: no label can be mature at as_of {recipe.as_of}: the first T {dates[0]} + {horizon.window_months} "
            f"months + {lag} days of reporting lag is {first}",
            action=f"set as_of to {first} or later, start {name} earlier, or shorten labels.horizons",
        )


def _require_usable(recipe: Recipe, horizon: Horizon) -> None:
    """A further horizon is trained on train and calibrated on validation: each has a T whose label may be used."""
    observed = recipe.observations
    following = {"train": (observed.train, observed.validation), "validation": (observed.validation, observed.oot)}
    for name, (dates, later) in following.items():
        if dates is None:
            continue
        limit = recipe.as_of if later is None else min(recipe.as_of, later.first)
        first = recipe.labels.matures(dates.first, horizon)
        if first > limit:
            raise ConfigError(
                f"labels.horizons: no label of {horizon.name} in observations.{name} can be used: that of the first T "
                f"{dates.first} is mature on {first}, the next split begins or the data ends on {limit}",
                action=f"leave out {horizon.name}, start observations.{name} earlier, or move what follows it on",
            )
