"""``zigong quality``: check a published table on demand, and pin the reference of its drift rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from schemas.contracts import table_contract, table_names
from zigong.cli.shared import OnlyRecipe, Root, named_errors, named_run
from zigong.console import CONSOLE, say
from zigong.errors import ConfigError, DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.job import Job

if TYPE_CHECKING:
    from zigong.quality.verdict import RuleResult

RunId = Annotated[str, typer.Option("--run-id", help="run whose version of the table is used")]


def check(table: str, run_id: RunId, recipe: OnlyRecipe = None, root: Root = None) -> None:
    """Check a published table under the current rules; only the verdict is written, into the run's folder.

    A row that the current rules would quarantine is counted and kept.
    """
    from zigong.quality.audit import audit_published
    from zigong.quality.audit_context import audit_context

    with named_errors():
        job = _job(table, run_id, recipe, root)
        contract = table_contract(table)
        folder = job.run.folder / "checks"
        context = audit_context(job.recipe, job.paths, run_id, other=job.read)
        verdict = audit_published(job.read(table), contract, context, folder)
        shown = Table(title=f"{table}, version {job.version(table)}: {verdict.kept + verdict.refused:,} rows")
        for column in ("rule", "severity", "observed", "expected", "holds"):
            shown.add_column(
                column, justify="right" if column == "observed" else "left", overflow="fold", no_wrap=column == "rule"
            )
        for item in verdict.results:
            shown.add_row(item.rule, item.severity, item.observation_text(), item.expected(), _holds(item))
        CONSOLE.print(shown)
        say(f"written to {folder / 'quality' / 'verdicts'}")
        if not verdict.passed or verdict.refused:
            refused = f"{verdict.refused:,} rows would be quarantined" if verdict.refused else ""
            raise DataError(
                f"table {table} violates its contract: {'; '.join(filter(None, (*verdict.failures, refused)))}",
                action="find what changed in the rules or the rows, then build the table again",
            )


def pin(table: str, run_id: RunId, recipe: OnlyRecipe = None, root: Root = None) -> None:
    """Make a run's version of a table the reference of its drift rules for later versions."""
    from zigong.quality.audit_context import references_of
    from zigong.quality.reference import made_reference

    with named_errors():
        job = _job(table, run_id, recipe, root)
        rules = [rule for rule in table_contract(table).table_rules if rule.measure == "psi"]
        if not rules:
            raise ConfigError(
                f"table {table} has no rule of measure psi", action="docs/quality.md shows how to add one"
            )
        rows, references = job.read(table).cache(), references_of(job.paths)
        for rule in rules:
            made = made_reference(rows, rule, run_id)
            if made is None:
                raise DataError(
                    f"table {table}, rule {rule.name}: too few rows have a value",
                    action="pin a run with more such rows",
                )
            references.pin(table, rule, made)
            rows_of = max(sum(counts) for counts in made.counts.values())
            bins = sum(found.size for found in made.bins.values())
            say(f"{rule.name}: {rows_of:,} rows in {bins} bins are the new reference")


def _job(table: str, run_id: str, recipe: OnlyRecipe, root: Root) -> Job:
    if table not in table_names():
        raise ConfigError(f"no table {table!r}", action=f"use one of {', '.join(table_names())}")
    run = named_run(run_id, recipe, root)
    return Job(step="quality", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))


def _holds(item: RuleResult) -> str:
    if item.observed is None:
        return f"not evaluated: {item.note}" if item.passed else f"[red]no: {item.note}[/]"
    if item.severity == "quarantine" and item.observed:
        return "[yellow]rows to quarantine[/]"
    return "[green]yes[/]" if item.passed else "[red]no[/]"
