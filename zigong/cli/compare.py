"""``zigong runs compare``: whether two runs have equal results."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, named_run
from zigong.console import CONSOLE, say

if TYPE_CHECKING:
    from zigong.lakehouse.digest import RowsDigest
    from zigong.runs.compare import RunComparison


def compare(
    run_a: Annotated[str, typer.Argument(help="run to compare", metavar="RUN_A")],
    run_b: Annotated[str, typer.Argument(help="run to compare it with", metavar="RUN_B")],
    recipe: OnlyRecipe = None,
    root: Root = None,
    other_root: Annotated[
        str | None, typer.Option("--other-root", help="root of the lakehouse of RUN_B, if it is another one")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Compare two runs: rows and digest of every table they pinned or published, and their figures.

    Exit code 0 when all are equal, 1 when one differs.
    """
    from zigong.lakehouse.session import open_spark
    from zigong.recipe import Engine
    from zigong.runs.compare import compare_runs

    with named_errors():
        first = named_run(run_a, recipe, root)
        other = named_run(run_b, None, other_root) if other_root is not None else named_run(run_b, recipe, root)
        spark = open_spark(Engine(), app_name="zigong runs compare", log=Path(os.devnull))
        found = compare_runs(spark, first, other)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "first_difference": found.first_difference}, indent=2))
    _show(found, run_a, run_b)
    if found.first_difference:
        raise typer.Exit(1)


def _show(found: RunComparison, run_a: str, run_b: str) -> None:
    from zigong.runs.compare import COLUMNS_OF_RUN, FIGURES_OF_WORK

    shown = Table(title=f"{run_a} and {run_b}")
    for column in ("table", f"rows of {run_a}", f"rows of {run_b}", "digests", "equal"):
        shown.add_column(column, justify="right" if column.startswith("rows") else "left", overflow="fold")
    for item in found.tables:
        digests = dict.fromkeys("-" if side is None else side.digest for side in item.sides)
        equal = "[green]yes[/]" if not item.difference else f"[red]{item.difference}[/]"
        shown.add_row(item.table, *(_rows(side) for side in item.sides), " ".join(digests), equal)
    CONSOLE.print(shown)
    for name, (of_first, of_other) in found.differing_figures.items():
        say(f"figure {name}: {of_first} and {of_other}")
    say(f"{found.figures - len(found.differing_figures):,} of {found.figures:,} figures are equal")
    say(f"excluded: columns {', '.join(COLUMNS_OF_RUN)}; figures {', '.join(FIGURES_OF_WORK)}")
    say(f"first difference: {found.first_difference}" if found.first_difference else "the results are equal")


def _rows(side: RowsDigest | None) -> str:
    return "-" if side is None else f"{side.rows:,}"
