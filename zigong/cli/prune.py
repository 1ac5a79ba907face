"""``zigong runs prune``: removal of old runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, runs_folder_of
from zigong.console import CONSOLE, say
from zigong.errors import ConfigError
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.prune import judged_runs, remove_run
from zigong.runs.run import Run, list_runs

MIB = 1024**2


def prune(
    keep: Annotated[int, typer.Option(help="how many runs of each recipe stay at least")],
    recipe: OnlyRecipe = None,
    root: Root = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be removed")] = False,
) -> None:
    """Remove the folders of old runs, so that `zigong maintain` may remove the versions of tables that they pin."""
    with named_errors():
        folder = runs_folder_of(recipe, root)
        paths, runs = LakehousePaths.at(str(folder.parent)), list_runs(folder)
        judged = judged_runs(runs, keep=keep, champions=_champions(runs))
    table = Table(title="runs prune (dry run)" if dry_run else "runs prune")
    for column in ("run", "recipe", "created", "MiB", "verdict"):
        table.add_column(column, justify="right" if column == "MiB" else "left", overflow="fold")
    for item in judged:
        if not item.kept and not dry_run:
            remove_run(paths, item.run)
        verdict = f"kept: {item.kept}" if item.kept else "would be removed" if dry_run else "removed"
        table.add_row(item.run.run_id, item.recipe, item.created_at, f"{item.size / MIB:,.1f}", verdict)
    CONSOLE.print(table)
    gone = [item for item in judged if not item.kept]
    say(f"{len(gone)} of {len(judged)} runs, {sum(item.size for item in gone) / MIB:,.1f} MiB")


def _champions(runs: list[Run]) -> set[str]:
    """The runs that released the champions of the recipes of a lakehouse.

    Raises:
        ConfigError: no recipe of a run can be read, so that nobody knows its registry.
    """
    from zigong.release.registry import champion
    from zigong.release.serving import registry_of

    known = {}
    for run in runs:
        try:
            registry = registry_of(run.recipe)
        except ConfigError:  # of another version: its champion is that of a later run with the same registry
            continue
        known[registry.uri, registry.model_name] = registry
    if runs and not known:
        raise ConfigError(
            "every run is of another version of ZiGong, so that the champion is not known",
            action="start a run with this version first",
        )
    opened = [registry for registry in known.values() if not _is_new(registry.uri)]
    return {found.model.run_id for registry in opened if (found := champion(registry)) is not None}


def _is_new(uri: str) -> bool:
    """Whether a registry is a file that nobody has made yet; to look into it would make it."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()
