"""Shared by the commands: their argument style, and errors that end in one clear message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from zigong.console import say_error
from zigong.errors import ConfigError, ZigongError
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe, load_recipe
from zigong.runs.job import runs_folder
from zigong.runs.run import Run, known_run

RecipeFile = Annotated[Path, typer.Argument(help="recipe file", metavar="RECIPE")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="override a field of the recipe")]
RunId = Annotated[str | None, typer.Option("--run-id", help="run to resume; by default a new one")]
Root = Annotated[str | None, typer.Option("--root", help="root of the lakehouse")]
OnlyRecipe = Annotated[Path | None, typer.Option("--recipe", help="recipe that names the lakehouse")]


@contextmanager
def named_errors() -> Iterator[None]:
    """Ends errors of ZiGong in one clear message and the exit code of their kind."""
    try:
        yield
    except ZigongError as error:
        say_error(error.kind, error.message, error.action)
        raise typer.Exit(error.exit_code) from error


def runs_folder_of(recipe: Path | None, root: str | None) -> Path:
    """The folder of the runs of the lakehouse of a command; by default the demo's."""
    if recipe is not None:
        return runs_folder(load_recipe(recipe))
    return LakehousePaths.at(root or "build/lakehouse/demo").local("_runs")


def named_run(run_id: str, recipe: Path | None, root: str | None) -> Run:
    """The run with this id.

    Raises:
        ConfigError: the lakehouse has no such run.
    """
    found = known_run(runs_folder_of(recipe, root), run_id)
    if found is None:
        raise ConfigError(f"no run {run_id}", action="`zigong runs ls` lists the runs of a lakehouse")
    return found


def require_base(recipe: Recipe) -> None:
    """Checks the base that a recipe names; its library takes seconds to import, which other recipes need not wait."""
    from zigong.training.pretrained import require_usable

    require_usable(recipe)
