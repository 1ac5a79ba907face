"""``zigong audit-log``: who published what, and whether the log is complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, runs_folder_of
from zigong.console import CONSOLE, say
from zigong.errors import ConfigError, DataError
from zigong.lakehouse.paths import LakehousePaths

if TYPE_CHECKING:
    from zigong.lakehouse.audit_chain import Entry, Head

HEAD = re.compile(r"(\d+):([0-9a-f]{64})")
COUNTS = ("in", "published", "quarantined", "dropped")
COLUMNS = ("seq", "at", "actor", "action", "run", "step", "table", "version", *COUNTS)


def verify(
    recipe: OnlyRecipe = None,
    root: Root = None,
    expect_head: Annotated[
        str | None, typer.Option("--expect-head", metavar="SEQ:HASH", help="a head printed and stored earlier")
    ] = None,
) -> None:
    """Recompute the chain of the audit log and compare it with the published tables; prints its head."""
    from zigong.lakehouse.verify_audit_log import verify_audit_log

    with named_errors():
        paths = LakehousePaths.at(str(runs_folder_of(recipe, root).parent))
        result = verify_audit_log(paths, _head(expect_head) if expect_head is not None else None)
        if result.broken is not None:
            raise DataError(
                f"the audit log breaks at {result.broken.place}: expected {result.broken.expected}, found "
                f"{result.broken.found}",
                action="where a commit has no entry yet, its step still runs or was killed: start it with its run "
                "id, then verify; anything else was written by hand: keep the table unchanged and find out by whom",
            )
        say(
            f"[green]verified[/]: {result.head.seq:,} entries; {result.matched:,} published versions agree, "
            f"{result.unavailable:,} are no longer in the Delta log, {result.before:,} commits are older than the log"
        )
        if expect_head is None:
            say("entries cut off at the end are detected only with a head stored elsewhere: use --expect-head")
        say(f"head {result.head}")


def list_entries(
    recipe: OnlyRecipe = None,
    root: Root = None,
    table: Annotated[str | None, typer.Option("--table", help="only this table")] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", help="only this run")] = None,
) -> None:
    """List the entries of the audit log, oldest first."""
    from zigong.lakehouse.audit_log import audit_entries

    shown = Table(title="audit log")
    for column in COLUMNS:
        shown.add_column(column, overflow="fold")
    with named_errors():
        for entry in audit_entries(LakehousePaths.at(str(runs_folder_of(recipe, root).parent))):
            if table in (None, entry.table_name) and run_id in (None, entry.run_id):
                shown.add_row(*_fields(entry))
    CONSOLE.print(shown)


def _fields(entry: Entry) -> list[str]:
    numbers = (entry.version, entry.rows_in, entry.rows_published, entry.rows_quarantined, entry.rows_dropped)
    words = (f"{entry.seq}", f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.actor, entry.action, entry.run_id, entry.step)
    return [*words, entry.table_name, *("" if number is None else f"{number:,}" for number in numbers)]


def _head(text: str) -> Head:
    from zigong.lakehouse.audit_chain import Head

    match = HEAD.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"--expect-head {text!r} is not SEQ:HASH, a number and 64 hex digits",
            action="use the head as an earlier `zigong audit-log verify` printed it",
        )
    return Head(seq=int(match[1]), entry_hash=match[2])
