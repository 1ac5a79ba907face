"""``zigong contract``: problems of contracts, what a new version breaks, and documentation pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from schemas.compatibility import Compatibility, compare_contracts
from schemas.contracts import CONTRACT_SUFFIXES, TableContract, contract_text, parse_contract, table_names
from schemas.describe import INDEX, contract_pages
from schemas.findings import ERROR, LintFinding
from schemas.lint import Lint, known_columns, lint_contract
from zigong.cli.shared import named_errors
from zigong.console import CONSOLE, say
from zigong.errors import ConfigError

T = TypeVar("T")
Tables = Annotated[
    list[str] | None,
    typer.Argument(help="tables, or contract files; all shipped ones by default", metavar="[TABLE]..."),
]
Version = Annotated[str, typer.Argument(help="contract file, or a table: its shipped contract")]


def lint(tables: Tables = None) -> None:
    """Report all problems of contracts. Exit code 0: no error (warnings are allowed); 2: errors."""
    from zigong.lakehouse.session import open_spark
    from zigong.quality.conditions import condition_findings
    from zigong.recipe import Engine

    with named_errors():
        named = tables or table_names()
        texts = _readable(lambda: {_file(name): contract_text(name) for name in named})
        known = known_columns(texts.values())
        lints = [lint_contract(text, file=file, known=known) for file, text in texts.items()]
        spark = open_spark(Engine(), app_name="zigong contract lint", log=Path(os.devnull))
        findings = [(one, (*one.findings, *condition_findings(spark, one))) for one in lints]
        found = [finding for _, those in findings for finding in those]
        errors = sum(finding.severity == ERROR for finding in found)
        if found:
            CONSOLE.print(_findings_table(findings))
        if errors:
            raise ConfigError(
                f"{_count(errors, 'error')} and {_count(len(found) - errors, 'warning')} in "
                f"{_count(len(texts), 'contract')}",
                action="correct what the table lists, then lint again",
            )
        say(f"[green]ok[/]: {_count(len(texts), 'contract')}, {_count(len(found), 'warning')}")


def diff(old: Version, new: Version) -> None:
    """Show what a new version breaks, and for whom. Exit code 2: its version number does not reflect that."""
    with named_errors():
        before, after = _parsed(old), _parsed(new)
        verdict = compare_contracts(before, after)
        if verdict.changes:
            CONSOLE.print(_changes_table(f"{after.name} {before.version} to {after.version}", verdict))
        if verdict.version_fault:
            raise ConfigError(
                f"{after.name}: {_verdict(verdict)}; {verdict.version_fault}",
                action="set the version of the new contract, or undo the change",
            )
        say(f"[{'yellow' if verdict.breaks else 'green'}]{_verdict(verdict)}[/]: as version {after.version} states")


def docs(
    tables: Tables = None,
    output: Annotated[Path, typer.Option(help="folder of the pages")] = Path("build/contracts"),
) -> None:
    """Write one Markdown page per table, and an index, from the contracts."""
    with named_errors():
        pages = contract_pages(_parsed(name) for name in tables or table_names())
        output.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (output / name).write_text(text, encoding="utf-8")
        say(f"{escape(str(output / INDEX))}: {_count(len(pages) - 1, 'table')}")


def _readable(read: Callable[[], T]) -> T:
    """The result of ``read``; missing contracts and those that do not load are errors of the caller."""
    try:
        return read()
    except KeyError as error:
        raise ConfigError(str(error.args[0]), action="use the name of a table, or a .yaml file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"a contract is not UTF-8: {error}", action="save it as UTF-8") from error


def _parsed(name_or_path: str) -> TableContract:
    text = _readable(lambda: contract_text(name_or_path))
    try:
        return parse_contract(text)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{_file(name_or_path)} does not load: {error}",
            action=f"`zigong contract lint {name_or_path}` reports all its problems",
        ) from error


def _file(name_or_path: str) -> str:
    is_path = Path(name_or_path).suffix in CONTRACT_SUFFIXES
    return name_or_path if is_path else f"schemas/tables/{name_or_path}.yaml"


def _findings_table(lints: Iterable[tuple[Lint, Sequence[LintFinding]]]) -> Table:
    table = Table(title="contracts: findings")
    for column in ("file", "where", "found", "expected", "severity"):
        table.add_column(column, overflow="fold")
    for one, findings in lints:
        for finding in findings:
            colour = "red" if finding.severity == ERROR else "yellow"
            fields = (Path(one.file).name, finding.where, finding.found, finding.expected)
            table.add_row(*map(escape, fields), f"[{colour}]{finding.severity}[/]")
    return table


def _changes_table(title: str, verdict: Compatibility) -> Table:
    table = Table(title=escape(title))
    for column in ("where", "what", "breaks", "why", "version"):
        table.add_column(column, overflow="fold")
    for change in verdict.changes:
        breaks = f"[red]{change.breaks}[/]" if change.breaks else "[green]nobody[/]"
        table.add_row(escape(change.where), escape(change.what), breaks, escape(change.why), change.bump)
    return table


def _verdict(verdict: Compatibility) -> str:
    if not verdict.changes:
        return "compatible, nothing changed"
    return f"{'breaking' if verdict.breaks else 'compatible'}, a {verdict.bump} change"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
