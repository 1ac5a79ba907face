"""``zigong run | compile | doctor | report``: the commands for a recipe."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from zigong.cli.doctor import examine
from zigong.cli.doctor_recipe import examine_recipe
from zigong.cli.shared import OnlyRecipe, Overrides, RecipeFile, Root, RunId, named_errors, named_run, require_base
from zigong.commands import Plan, write_plan
from zigong.console import CONSOLE, say, say_error
from zigong.errors import ConfigError
from zigong.lakehouse.paths import LakehousePaths
from zigong.pipeline import Step
from zigong.recipe import Recipe, load_recipe
from zigong.recipe.feasible import require_feasible
from zigong.runs.handover import GateDecision
from zigong.runs.job import Job
from zigong.runs.run import Outcome, Run
from zigong.runs.runner import execute, start
from zigong.runs.steps import steps_of
from zigong.runs.takeover import former_run, take_over


def run_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    run_id: RunId = None,
    until: Annotated[str | None, typer.Option(help="last step to run")] = None,
    from_step: Annotated[
        str | None, typer.Option(help="first step to run; takes earlier ones over from --like")
    ] = None,
    like: Annotated[str | None, typer.Option(help="run whose tables and values a new run starts with")] = None,
) -> None:
    """Run a recipe from raw behaviour to a released Behavior Card, or resume one with --run-id."""
    with named_errors():
        loaded = load_recipe(recipe, overrides or [])
        if loaded.base.tiny is None:
            require_base(loaded)
        opened = _opened(loaded, run_id, from_step=from_step, like=like)
        say(f"[bold]{loaded.name}[/]  run [cyan]{opened.run_id}[/]  recipe digest {loaded.digest()[:12]}")
        again = shlex.join(["zigong", "run", str(recipe), *_sets(overrides), "--run-id", opened.run_id])
        last = _follow_until_interrupted(opened, until, again)
        if last is not None and last.code:
            message, outcome = f"{last.step}: {last.message}", opened.folder / "outcome.json"
            say_error(last.kind, message, last.action, outcome=outcome)
        page = _write_report(opened)
        _print_summary(opened)
        say(f"report   {page}\nmetrics  {opened.folder / 'metrics.json'}")
        if last is not None and last.code:
            raise typer.Exit(last.code)


def _opened(recipe: Recipe, run_id: str | None, *, from_step: str | None, like: str | None) -> Run:
    """The run, with what it takes over from another one."""
    if from_step is None and like is None:
        return start(recipe, run_id)
    if from_step is None or like is None:
        raise ConfigError(
            "--from-step and --like go together", action="give the step to start from and the run to take over from"
        )
    former = former_run(recipe, like, from_step)
    opened = start(recipe, run_id)
    take_over(opened, former, from_step)
    return opened


def compile_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(help="path of plan.json")] = Path("plan.json"),
) -> None:
    """Write plan.json, the file the DAGs read."""
    from zigong.lakehouse.session import DELTA_PACKAGE

    with named_errors():
        loaded = load_recipe(recipe, overrides or [])
        require_feasible(loaded)
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
        say(f"wrote {output}")


def doctor(recipe: OnlyRecipe = None, overrides: Overrides = None) -> None:
    """Check this machine; with a recipe also its root, key, source, Spark, Ray and registry, by trying each."""
    with named_errors():
        findings = examine() if recipe is None else examine_recipe(load_recipe(recipe, overrides or ()))
    table = Table(title="zigong doctor")
    for column in ("part", "found", "verdict"):
        table.add_column(column)
    for finding in findings:
        table.add_row(finding.part, finding.found, "[green]ok[/]" if finding.ok else f"[red]{finding.action}[/]")
    CONSOLE.print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(5)


def report(run_id: str, recipe: OnlyRecipe = None, root: Root = None) -> None:
    """Write the report of a run again."""
    with named_errors():
        say(str(_write_report(named_run(run_id, recipe, root))))


def _follow(run: Run, until: str | None) -> Outcome | None:
    """Runs the steps and shows each as it ends."""
    last = None
    for step, outcome, before in execute(run, until=until):
        last = outcome
        _print_step(step, outcome, before=before)
    return last


def _sets(overrides: list[str] | None) -> list[str]:
    return [argument for override in overrides or () for argument in ("--set", override)]


def _follow_until_interrupted(run: Run, until: str | None, again: str) -> Outcome | None:
    """Follows the run; Ctrl-C ends in one line that states how to continue."""
    try:
        return _follow(run, until)
    except KeyboardInterrupt as stopped:
        say(f"\nstopped; run [cyan]{run.run_id}[/] continues with: {escape(again)}")
        raise typer.Exit(130) from stopped


def _print_step(step: Step, outcome: Outcome, *, before: bool) -> None:
    mark = "[yellow]done before[/]" if before else "[green]ok[/]" if outcome.code == 0 else f"[red]{outcome.kind}[/]"
    counts = ", ".join(f"{name} {table['published']:,}" for name, table in outcome.tables.items())
    say(f"  {step.name:<20} {mark:<22} {outcome.seconds:7.1f} s  [dim]{counts}[/]")
    for warning in outcome.warnings:
        say(f"    [yellow]warning[/] {escape(warning)}")


def _print_summary(run: Run) -> None:
    figures = run.metrics()
    rows = Table(title="rows")
    kinds = ("published", "quarantined", "dropped", "outside")
    for column in ("table", *kinds):
        rows.add_column(column, justify="left" if column == "table" else "right")
    for name in [key.split(".")[1] for key in figures if key.startswith("rows.") and key.endswith(".published")]:
        rows.add_row(name, *(f"{figures.get(f'rows.{name}.{kind}', 0):,}" for kind in kinds))
    CONSOLE.print(rows)
    _print_models(run)
    _print_decision(run.find(GateDecision))


def _print_models(run: Run) -> None:
    """The result on the held-out split, from evaluation_metrics."""
    from zigong.dataset.members import final_split
    from zigong.evaluation.measured import measured_of

    measured = measured_of(Job(step="summary", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root)))
    if measured is None:
        return
    title = f"held-out result ({run.recipe.evaluation.confidence:.0%} intervals)"
    result, split = Table(title=title), final_split(run.recipe)
    for column in ("model", "AUC", "KS"):
        result.add_column(column)
    for model in sorted(measured.models(split), key=measured.display_name):
        intervals = (measured.interval(model, split, name) for name in ("auc", "ks"))
        cells = (f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" for found in intervals)
        result.add_row(measured.display_name(model), *(escape(cell) for cell in cells))
    CONSOLE.print(result)


def _print_decision(gate: GateDecision | None) -> None:
    """The decision of the gate: a step that refuses a model has succeeded, too, and its outcome is ok."""
    if gate is None:
        return
    colour = "green" if gate.decision == "released" else "yellow"
    say(f"gate     [{colour}]{gate.decision}[/]  {escape('; '.join(gate.reasons))}")
    for warning in gate.warnings:
        say(f"         [yellow]{escape(warning)}[/]")


def _write_report(run: Run) -> Path:
    from zigong.report.collect import write_run_report

    return write_run_report(run)
