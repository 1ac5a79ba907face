"""The command line."""

from typing import Annotated

import typer

from zigong import __version__
from zigong.cli import (
    audit,
    audit_log,
    benchmark,
    compare,
    contract,
    erase,
    maintain,
    migrate,
    nights,
    plan,
    prune,
    quality,
    quarantine,
    recipes,
    run,
    runs,
    sources,
    study,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From behaviour data to a released Behavior Card.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"zigong {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options that precede a command."""


app.command("run")(run.run_recipe)
app.command("plan")(plan.plan_recipe)
app.command("probe-device")(plan.probe_device)
app.command("compile")(run.compile_recipe)
app.command("doctor")(run.doctor)
app.command("report")(run.report)
app.command("audit-leakage")(audit.audit_leakage)
app.command("maintain")(maintain.maintain_tables)
app.command("migrate")(migrate.migrate_tables)
app.command("erase")(erase.erase)

runs_app = typer.Typer(no_args_is_help=True, help="Runs of a lakehouse.")
runs_app.command("ls")(runs.list_all)
runs_app.command("compare")(compare.compare)
runs_app.command("prune")(prune.prune)
app.add_typer(runs_app, name="runs")

nights_app = typer.Typer(no_args_is_help=True, help="Known dates that were ingested.")
nights_app.command("ls")(nights.list_nights)
app.add_typer(nights_app, name="nights")

recipe_app = typer.Typer(no_args_is_help=True, help="Keys of a recipe, and drafts of new ones.")
recipe_app.command("reference")(recipes.reference)
recipe_app.command("explain")(recipes.explain)
recipe_app.command("new")(recipes.new)
app.add_typer(recipe_app, name="recipe")

audit_log_app = typer.Typer(no_args_is_help=True, help="Who published what, under which verdict.")
audit_log_app.command("verify")(audit_log.verify)
audit_log_app.command("ls")(audit_log.list_entries)
app.add_typer(audit_log_app, name="audit-log")

source_app = typer.Typer(no_args_is_help=True, help="Raw sources and their mappings.")
source_app.command("check")(sources.check)
source_app.command("new")(sources.new)
app.add_typer(source_app, name="source")

quality_app = typer.Typer(no_args_is_help=True, help="Rules of published tables.")
quality_app.command("check")(quality.check)
quality_app.command("pin")(quality.pin)
app.add_typer(quality_app, name="quality")

quarantine_app = typer.Typer(no_args_is_help=True, help="Rows rejected by rules.")
quarantine_app.command("ls")(quarantine.list_refused)
quarantine_app.command("explain")(quarantine.explain)
quarantine_app.command("replay")(quarantine.replay)
app.add_typer(quarantine_app, name="quarantine")

contract_app = typer.Typer(no_args_is_help=True, help="Contracts of the tables.")
contract_app.command("lint")(contract.lint)
contract_app.command("diff")(contract.diff)
contract_app.command("docs")(contract.docs)
app.add_typer(contract_app, name="contract")

study_app = typer.Typer(no_args_is_help=True, help="Experiments with a finished run.")
study_app.command("influence")(study.influence)
study_app.command("selection")(study.selection)
study_app.command("training")(study.training)
study_app.command("runs")(study.runs)
app.add_typer(study_app, name="study")

benchmark_app = typer.Typer(no_args_is_help=True, help="Measured comparisons on public data.")
benchmark_app.command("calm")(benchmark.calm)
app.add_typer(benchmark_app, name="benchmark")

__all__ = ["app"]
