"""``zigong nights``: which known dates of each source were ingested."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, runs_folder_of
from zigong.console import CONSOLE, say
from zigong.errors import DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.nights import Nights, nights_of, recorded_sources, spans_text


def list_nights(
    recipe: OnlyRecipe = None,
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list on standard output")] = False,
) -> None:
    """List the known dates of each source that are missing or ingested by several runs; exit 3 if any is missing."""
    with named_errors():
        paths = LakehousePaths.at(str(runs_folder_of(recipe, root).parent))
        found = [nights for source in recorded_sources(paths) if (nights := nights_of(paths, source))]
    if as_json:
        typer.echo(json.dumps([_as_json(nights) for nights in found], indent=2))
    elif found:
        _print(found)
    else:
        say("no ingest was recorded in this lakehouse yet")
    if any(nights.missing for nights in found):
        raise typer.Exit(DataError.exit_code)


def _as_json(nights: Nights) -> dict[str, object]:
    return {
        "source": nights.source,
        "begin": nights.begin.isoformat(),
        "end": nights.end.isoformat(),
        "missing": [day.isoformat() for day in nights.missing],
        "doubled": {day.isoformat(): list(runs) for day, runs in nights.doubled.items()},
    }


def _print(found: list[Nights]) -> None:
    table = Table(title="known dates")
    for column in ("source", "covered from", "covered until (excluded)", "missing", "ingested by several runs"):
        table.add_column(column, overflow="fold")
    for nights in found:
        missing = f"[red]{spans_text(nights.missing)}[/]" if nights.missing else "none"
        doubled = spans_text(nights.doubled) or "none"
        table.add_row(nights.source, str(nights.begin), str(nights.end), missing, doubled)
    CONSOLE.print(table)
