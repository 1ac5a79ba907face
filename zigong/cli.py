"""The command line: ``zigong run | plan | compile | doctor | report | runs``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from zigong.console import CONSOLE
from zigong.doctor import examine
from zigong.errors import ConfigError, ZigongError
from zigong.estimate import estimate_run
from zigong.job import runs_folder
from zigong.lakehouse.paths import LakehousePaths
from zigong.pipeline import Plan, Step, write_plan
from zigong.recipe import load_recipe
from zigong.run import Outcome, Run, list_runs
from zigong.runner import execute, start, steps_of

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From behaviour data to a released Behavior Card.",
)
runs_app = typer.Typer(no_args_is_help=True, help="Runs of a lakehouse.")
app.add_typer(runs_app, name="runs")

RecipeFile = Annotated[Path, typer.Argument(help="recipe file", metavar="RECIPE")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="override a field of the recipe")]
RunId = Annotated[str | None, typer.Option("--run-id", help="run to resume; a new one when absent")]
Root = Annotated[str | None, typer.Option("--root", help="root of the lakehouse")]
OnlyRecipe = Annotated[Path | None, typer.Option("--recipe", help="recipe that names the lakehouse")]


@app.command("run")
def run_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    run_id: RunId = None,
    until: Annotated[str | None, typer.Option(help="last step to run")] = None,
) -> None:
    """Run a recipe from raw behaviour to a released Behavior Card, or resume one with --run-id."""
    with _named_errors():
        loaded = load_recipe(recipe, overrides or [])
        opened = start(loaded, run_id)
        CONSOLE.print(f"[bold]{loaded.name}[/]  run [cyan]{opened.run_id}[/]  recipe digest {loaded.digest()[:12]}")
        last = _follow(opened, until)
        if last is not None and last.code:
            CONSOLE.print(f"[red]{last.kind} error in {last.step}[/]: {escape(last.message)}", highlight=False)
            CONSOLE.print(
                f"  next: {escape(last.action)}\n  outcome: {opened.folder / 'outcome.json'}", highlight=False
            )
        page = _write_report(opened)
        _print_summary(opened)
        CONSOLE.print(f"report   {page}\nmetrics  {opened.folder / 'metrics.json'}", soft_wrap=True, highlight=False)
        if last is not None and last.code:
            raise typer.Exit(last.code)


@app.command("plan")
def plan_recipe(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Show what a run would do: steps, samples x checkpoints x tokens, memory and time. Runs nothing."""
    with _named_errors():
        loaded = load_recipe(recipe, overrides or [])
        table = Table(title=f"{loaded.name}: steps")
        for column in ("step", "engine", "reads", "writes"):
            table.add_column(column)
        for step in steps_of(loaded):
            table.add_row(step.name, step.engine, ", ".join(step.reads), ", ".join(step.writes))
        CONSOLE.print(table)
        CONSOLE.print(estimate_run(loaded).as_table())


@app.command("compile")
def compile_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(help="where plan.json goes")] = Path("plan.json"),
) -> None:
    """Write plan.json, the file the DAGs read."""
    from zigong.lakehouse.session import DELTA_PACKAGE

    with _named_errors():
        loaded = load_recipe(recipe, overrides or [])
        plan = Plan(
            recipe=str(recipe.resolve()),
            overrides=tuple(overrides or ()),
            name=loaded.name,
            digest=loaded.digest(),
            root=LakehousePaths.at(loaded.lakehouse.root).root,
            timezone=loaded.business_timezone,
            delta_package=DELTA_PACKAGE,
            steps=tuple(step.name for step in steps_of(loaded)),
        )
        write_plan(plan, output)
        CONSOLE.print(f"wrote {output}", highlight=False)


@app.command("doctor")
def doctor() -> None:
    """Check Java, Spark with Delta, Ray and memory on this machine."""
    findings = examine()
    table = Table(title="zigong doctor")
    for column in ("part", "found", "verdict"):
        table.add_column(column)
    for finding in findings:
        table.add_row(finding.part, finding.found, "[green]ok[/]" if finding.ok else f"[red]{finding.action}[/]")
    CONSOLE.print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(5)


@app.command("report")
def report(run_id: str, recipe: OnlyRecipe = None, root: Root = None) -> None:
    """Write the report of a run again."""
    with _named_errors():
        found = [item for item in list_runs(_runs_folder(recipe, root)) if item.run_id == run_id]
        if not found:
            raise ConfigError(f"no run {run_id}", action="`zigong runs ls` lists the runs of a lakehouse")
        CONSOLE.print(str(_write_report(found[0])), highlight=False)


@runs_app.command("ls")
def list_all(
    recipe: OnlyRecipe = None,
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list on standard output")] = False,
) -> None:
    """List runs with their outcomes; without --recipe or --root, of every lakehouse under build/lakehouse."""
    with _named_errors():
        rows = [_run_row(item) for folder in _all_runs_folders(recipe, root) for item in list_runs(folder)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(title="runs")
    for column in ("run", "recipe", "created", "steps", "outcome", "metrics"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("run_id", "recipe", "created_at", "steps", "outcome", "metrics")))
    CONSOLE.print(table)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Our errors end in one clear message and the exit code of their kind."""
    try:
        yield
    except ZigongError as error:
        CONSOLE.print(f"[red]{error.kind} error[/]: {escape(str(error))}", highlight=False)
        raise typer.Exit(error.exit_code) from error


def _follow(run: Run, until: str | None) -> Outcome | None:
    """Runs the steps and shows each as it ends."""
    last = None
    for step, outcome, before in execute(run, until=until):
        last = outcome
        _print_step(step, outcome, before=before)
    return last


def _print_step(step: Step, outcome: Outcome, *, before: bool) -> None:
    mark = "[yellow]done before[/]" if before else "[green]ok[/]" if outcome.code == 0 else f"[red]{outcome.kind}[/]"
    counts = ", ".join(f"{name} {table['published']:,}" for name, table in outcome.tables.items())
    CONSOLE.print(f"  {step.name:<20} {mark:<22} {outcome.seconds:7.1f} s  [dim]{counts}[/]", highlight=False)


def _print_summary(run: Run) -> None:
    figures = run.metrics()
    rows = Table(title="rows")
    for column in ("table", "published", "quarantined", "dropped"):
        rows.add_column(column, justify="left" if column == "table" else "right")
    for name in [key.split(".")[1] for key in figures if key.startswith("rows.") and key.endswith(".published")]:
        rows.add_row(name, *(f"{figures[f'rows.{name}.{kind}']:,}" for kind in ("published", "quarantined", "dropped")))
    CONSOLE.print(rows)
    models = [key.removeprefix("oot.auc.") for key in figures if key.startswith("oot.auc.")]
    if not models:
        return
    result = Table(title="held-out result (95% intervals)")
    for column in ("model", "AUC", "KS"):
        result.add_column(column)
    for model in models:
        cells = [
            f"{figures[f'oot.{name}.{model}']:.3f} [{figures[f'oot.{name}_low.{model}']:.3f}, "
            f"{figures[f'oot.{name}_high.{model}']:.3f}]"
            for name in ("auc", "ks")
        ]
        result.add_row(model, *(escape(cell) for cell in cells))
    CONSOLE.print(result)


def _write_report(run: Run) -> Path:
    from zigong.report.collect import write_run_report

    return write_run_report(run)


def _runs_folder(recipe: Path | None, root: str | None) -> Path:
    if recipe is not None:
        return runs_folder(load_recipe(recipe))
    return LakehousePaths.at(root or "build/lakehouse/demo").local("_runs")


def _all_runs_folders(recipe: Path | None, root: str | None) -> list[Path]:
    if recipe is not None or root is not None:
        return [_runs_folder(recipe, root)]
    return sorted(Path("build/lakehouse").resolve().glob("*/_runs"))


def _run_row(run: Run) -> dict[str, object]:
    steps = steps_of(run.recipe)
    outcomes = [outcome for step in steps if (outcome := run.outcome(step.name)) is not None]
    failed = [outcome for outcome in outcomes if outcome.code]
    done = sum(1 for outcome in outcomes if outcome.code == 0)
    state = f"{failed[0].kind} in {failed[0].step}" if failed else "ok" if done == len(steps) else "unfinished"
    manifest = run.manifest()
    return {
        "run_id": run.run_id,
        "recipe": manifest["recipe"],
        "recipe_digest": manifest["recipe_digest"],
        "created_at": manifest["created_at"],
        "steps": f"{done}/{len(steps)}",
        "outcome": state,
        "folder": str(run.folder),
        "metrics": str(run.folder / "metrics.json"),
        "report": str(run.folder / "report.html"),
        "last": asdict(outcomes[-1]) if outcomes else None,
    }
