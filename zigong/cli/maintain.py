"""``zigong maintain``: compaction and removal of unreferenced files."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, runs_folder_of
from zigong.console import CONSOLE
from zigong.lakehouse.maintain import VACUUM_RETENTION_HOURS, maintain, pins
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import published_tables
from zigong.runs.leftovers import attempt_has_ended
from zigong.runs.run import list_runs


def maintain_tables(
    recipe: OnlyRecipe = None,
    root: Root = None,
    retain_hours: Annotated[int, typer.Option(help="files replaced later than this are kept")] = VACUUM_RETENTION_HOURS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be removed")] = False,
) -> None:
    """Compact the tables and remove old files; versions that a kept run pins stay readable."""
    shown = Table(title="maintain (dry run)" if dry_run else "maintain")
    for column in ("table", "files before", "files after", "removed", "expired rows", "pinned versions", "version"):
        shown.add_column(column, justify="left" if column == "table" else "right")
    with named_errors():
        folder = runs_folder_of(recipe, root)
        paths = LakehousePaths.at(str(folder.parent))
        pinned = pins(run.manifest() for run in list_runs(folder))
        for table in published_tables(paths):
            done = maintain(
                paths,
                table,
                pinned.get(table, ()),
                retain_hours=retain_hours,
                dry_run=dry_run,
                has_ended=lambda leftover: attempt_has_ended(folder, leftover),
            )
            counts = (done.files_before, done.files_after, done.removed, done.expired, len(done.pinned), done.version)
            shown.add_row(table, *(f"{count:,}" for count in counts))
    CONSOLE.print(shown)
