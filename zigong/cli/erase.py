"""``zigong erase``: deletes persons from the lakehouse permanently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, runs_folder_of
from zigong.console import CONSOLE, say
from zigong.errors import ConfigError, DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe, load_recipe
from zigong.recipe.source import pseudonym_key
from zigong.runs.run import Run, list_runs

if TYPE_CHECKING:
    from zigong.erasure.erase import Request
    from zigong.erasure.traces import Traces
    from zigong.lakehouse.erasures import Erasure

PSEUDONYM = re.compile(r"[0-9a-f]{64}")
SHOWN_FILES, SHOWN_LINES = 10, 50


def erase(
    users: Annotated[
        Path, typer.Option(help="file of raw client ids, one per line, of the recipe's source; they are never written")
    ],
    recipe: OnlyRecipe = None,
    root: Root = None,
    pseudonyms: Annotated[bool, typer.Option("--pseudonyms", help="the file holds user_ids, not raw ids")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="check that no trace is left on disk")] = False,
    retrain_days: Annotated[int, typer.Option(help="days within which models have to be trained again")] = 30,
) -> None:
    """Erase users from tables, staged files, quarantine and artefacts; running jobs stop and can be continued later."""
    from zigong.erasure.erase import erase_users, request_for
    from zigong.lakehouse.session import open_spark

    with named_errors():
        folder = runs_folder_of(recipe, root)
        paths, runs = LakehousePaths.at(str(folder.parent)), list_runs(folder)
        owner = _owner(recipe, runs)
        lines = _ids(users, pseudonyms=pseudonyms)
        request = request_for(
            list(lines.values()),
            key=pseudonym_key(owner),
            pseudonyms=pseudonyms,
            retrain_days=retrain_days,
        )
        spark = open_spark(owner.engine, app_name="zigong erase", log=paths.local("_erasures", "spark.log"))
        done, traces = erase_users(spark, paths, request, runs)
        _print_summary(done)
        _print_not_found(done, request, lines, users)
        if verify:
            _verify(paths, traces)


def _owner(recipe: Path | None, runs: list[Run]) -> Recipe:
    """The recipe with key and source of the lakehouse: the given one, else that of its newest run that can be read."""
    if recipe is not None:
        return load_recipe(recipe)
    for run in reversed(runs):
        with suppress(ConfigError):  # of another version
            return run.recipe
    raise ConfigError("the lakehouse has no run whose recipe names its key", action="use --recipe")


def _ids(file: Path, *, pseudonyms: bool) -> dict[int, str]:
    """The ids by the number of their line."""
    if not file.is_file():
        raise ConfigError(f"--users {file} is not a file", action="use a file with one id per line")
    texts = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    ids = {number: text.strip() for number, text in texts if text.strip()}
    if not ids:
        raise ConfigError(f"--users {file} holds no id", action="use a file with one id per line")
    strange = sum(1 for one in ids.values() if pseudonyms and not PSEUDONYM.fullmatch(one))
    if strange:
        raise ConfigError(
            f"--users {file}: {strange} of {len(ids)} lines are not pseudonyms of 64 hex digits",
            action="use user_ids, or omit --pseudonyms for raw ids",
        )
    return ids


def _print_summary(done: Erasure) -> None:
    table = Table(title=f"{done.erasure_id}: {done.users:,} users")
    table.add_column("what")
    table.add_column("erased", justify="right")
    for name, rows in sorted(done.rows.items()):
        table.add_row(f"rows of {name}", f"{rows:,}")
    for name, files in sorted(done.files.items()):
        table.add_row(f"files {name}", f"{files:,}")
    CONSOLE.print(table)
    if done.models:
        learned = Table(title="models that learned from them")
        for column in asdict(done.models[0]):
            learned.add_column(column.replace("_", " "), overflow="fold")
        for model in done.models:
            learned.add_row(*(str(value) for value in asdict(model).values()))
        CONSOLE.print(learned)


def _print_not_found(done: Erasure, request: Request, lines: Mapping[int, str], file: Path) -> None:
    """Names the lines of ids of whom nothing was found; the ids themselves are printed nowhere."""
    from zigong.erasure.tables import tombstone

    if not done.not_found:
        return
    unknown = set(done.not_found)
    pseudonym = (lambda text: text) if not request.raw_ids else request.digest
    numbers = [number for number, text in lines.items() if tombstone(pseudonym(text)) in unknown]
    shown = ", ".join(map(str, numbers[:SHOWN_LINES])) + (" and more" if len(numbers) > SHOWN_LINES else "")
    say(
        f"[yellow]not found[/]: {len(done.not_found):,} of {done.users:,} ids were in no table (lines {shown} of "
        f"{escape(str(file))}): mistyped, never ingested, or erased before; they are blocked from now on"
    )


def _verify(paths: LakehousePaths, traces: Traces) -> None:
    from zigong.erasure.verify import verify_erased

    result = verify_erased(paths, traces)
    if result.unread:
        files = ", ".join(str(file.relative_to(paths.root)) for file in result.unread[:SHOWN_FILES])
        say(
            f"[yellow]{len(result.unread):,} files could not be read[/]: {escape(files)}; verify again when no job runs"
        )
    if result.left:
        files = ", ".join(str(file.relative_to(paths.root)) for file in sorted(result.left)[:SHOWN_FILES])
        raise DataError(
            f"{len(result.left)} of {result.files} files still contain keys of erased users: {files}",
            action="run the same command again; if a file is still listed, remove it by hand",
        )
    say(f"[green]verified[/]: {result.keys:,} keys are in none of {result.files:,} files; planted keys were found")
    if result.too_short:
        say(f"{result.too_short:,} raw ids are too short for a search in texts; their pseudonyms were searched")
