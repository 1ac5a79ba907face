"""``zigong migrate``: tables of an older contract."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from schemas.contracts import table_contract, table_names
from zigong.cli.shared import OnlyRecipe, Root, named_errors, runs_folder_of
from zigong.console import CONSOLE, say
from zigong.lakehouse.migrate import column_changes, migrate, needs_rows
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version, published_tables
from zigong.recipe import Engine, load_recipe


def migrate_tables(
    recipe: OnlyRecipe = None,
    root: Root = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show the changes")] = False,
) -> None:
    """Bring the tables of a lakehouse to today's contracts: one commit each; former versions stay as they are."""
    shown = Table(title="migrate (dry run)" if dry_run else "migrate")
    for column in ("table", "column", "change", "before", "rows written again", "version"):
        shown.add_column(column)
    with named_errors():
        folder = runs_folder_of(recipe, root)
        paths = LakehousePaths.at(str(folder.parent))
        known = [table_contract(name) for name in published_tables(paths) if name in table_names()]
        # All differences before the first change: one that cannot be mended must not leave half of the tables behind.
        found = [(contract, changes) for contract in known if (changes := column_changes(paths, contract))]
        if found and not dry_run:
            from zigong.lakehouse.session import open_spark

            engine = Engine() if recipe is None else load_recipe(recipe).engine
            spark = open_spark(engine, app_name="zigong migrate", log=paths.local("_runs", "migrate-spark.log"))
        for contract, changes in found:
            version = latest_version(paths, contract.name) if dry_run else migrate(spark, paths, contract, changes)
            again = "yes" if needs_rows(changes) else "no"
            for change in changes:
                shown.add_row(contract.name, change.name, change.how, change.former, again, str(version))
    if found:
        CONSOLE.print(shown)
    say(f"{len(found)} of {len(known)} tables {'would change' if dry_run else 'changed'}")
