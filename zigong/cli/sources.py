"""``zigong source``: problems of a source mapping and its files, and a first mapping for new files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.table import Table

from schemas.mappings import load_mapping
from zigong.cli.shared import named_errors
from zigong.console import CONSOLE, say
from zigong.errors import ConfigError, DataError

if TYPE_CHECKING:
    from schemas.mappings import SourceMapping
    from zigong.behavior.sources.findings import SourceCheck, SourceFinding, Summary


def check(
    mapping: Annotated[str, typer.Argument(help="name of a shipped mapping, or a mapping file", metavar="MAPPING")],
    path: Annotated[str, typer.Option(help="folder of the raw files")],
    timezone: Annotated[str, typer.Option(help="business time zone, as in the recipe")] = "UTC",
    fresh: Annotated[bool, typer.Option("--fresh", help="check again even if nothing has changed")] = False,
) -> None:
    """Report every problem of a mapping and its raw files. Writes nothing but its result, to the user's cache."""
    with named_errors():
        try:
            loaded, zone = load_mapping(mapping), ZoneInfo(timezone).key
        except (ValueError, KeyError) as error:
            raise ConfigError(str(error), action="correct the mapping file or the argument") from error
        result = _checked(loaded, path, zone, fresh=fresh)
        if result.findings:
            CONSOLE.print(_findings_table(loaded.name, result.findings))
        if result.summary is not None:
            _print_summary(result.summary)
        if result.faults:
            raise DataError(
                f"source {loaded.name}: {result.faults} problems in the mapping or its files",
                action="correct what the table lists, then check again; nothing was written",
            )
        if not result.ok:
            kinds = {"would go to quarantine": result.row_findings, "would be dropped or changed": result.losses}
            found = " and ".join(f"rows of {count} kinds {fate}" for fate, count in kinds.items() if count)
            raise DataError(
                f"source {loaded.name}: the mapping runs; {found}",
                action="correct the rows or the mapping, or run it: the other rows are published; nothing was written",
            )
        if result.complete:
            say("[green]ok[/]: ingest would publish every row")
        else:
            say("[yellow]ok[/]: ingest would run, and drop or change the rows that the table lists in yellow")


def _checked(mapping: SourceMapping, path: str, timezone: str, *, fresh: bool) -> SourceCheck:
    """The result of a check; that of the last one if mapping, files and code are unchanged."""
    from zigong.behavior.sources.remembered import remember, remembered, result_file

    file = result_file(mapping, path, timezone=timezone)
    known = None if fresh else remembered(file)
    if known is not None:
        say("[dim]mapping and files are unchanged since the last check; --fresh checks again[/]")
        return known
    from zigong.behavior.sources.check import check_source
    from zigong.behavior.sources.faults import values_withheld
    from zigong.lakehouse.session import open_spark
    from zigong.recipe import Engine

    say("[dim]starting Spark[/]")
    spark = open_spark(Engine(), app_name="zigong source check", log=Path(os.devnull))
    with values_withheld(f"source mapping {mapping.origin}", path):
        result = check_source(
            spark, mapping, path, timezone=timezone, progress=lambda step: say(f"[dim]checking {escape(step)}[/]")
        )
    remember(file, result)
    return result


def new(
    files: Annotated[
        list[Path], typer.Argument(help="sample files: csv, tsv, txt, asc, dat, json (one object per line), parquet")
    ],
    output: Annotated[Path, typer.Option(help="mapping file to write")],
    name: Annotated[str | None, typer.Option(help="name of the source; default: that of the first file")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="encoding of the text files; default: found by their bytes")
    ] = None,
) -> None:
    """Write a commented starting mapping from sample files."""
    from zigong.behavior.sources.draft import drafted_mapping

    with named_errors():
        if output.exists():
            raise ConfigError(f"{output} exists", action="use another --output, or move the file")
        draft = drafted_mapping(files, name=name, encoding=encoding)
        output.write_text(draft.text, encoding="utf-8")
        for note in draft.notes:
            say(f"[yellow]look at[/] {escape(note)}")
        say(
            f"{escape(str(output))}: complete its TODOs, then run\n"
            f"  zigong source check {escape(str(output))} --path {escape(str(draft.folder))}"
        )


def _findings_table(name: str, findings: Iterable[SourceFinding]) -> Table:
    table = Table(title=f"{name}: findings")
    for column in ("where", "problem", "rows", "examples (masked)", "what to do"):
        table.add_column(column, overflow="fold", justify="right" if column == "rows" else "left")
    for finding in findings:
        where = f"{finding.section}: {finding.column}" if finding.column else finding.section
        table.add_row(
            escape(where),
            f"[{'red' if finding.blocking else 'yellow'}]{escape(finding.problem)}[/]",
            "" if finding.rows is None else f"{finding.rows:,}",
            escape("\n".join(finding.examples)),
            escape(finding.action),
        )
    return table


def _print_summary(summary: Summary) -> None:
    table = Table(title="events and profiles of the source")
    table.add_column("what")
    table.add_column("found", overflow="fold")
    for name, rows in summary.file_rows.items():
        table.add_row(f"rows of {name}", f"{rows:,}")
    for name, rows in summary.read_files.items():
        table.add_row(escape(f"  {name}"), f"{rows:,}")
    table.add_row("events", f"{summary.events:,} of {summary.users:,} users")
    table.add_row("profiles", f"{summary.profiles:,}")
    table.add_row("event types", ", ".join(f"{name} {rows:,}" for name, rows in summary.event_types.items()))
    table.add_row("event_at (UTC)", f"{summary.first_event_at} to {summary.last_event_at}")
    table.add_row("known_at (UTC)", f"{summary.first_known_at} to {summary.last_known_at}")
    CONSOLE.print(table)
