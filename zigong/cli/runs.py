"""``zigong runs``: the runs of a lakehouse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, runs_folder_of
from zigong.console import CONSOLE
from zigong.errors import ConfigError
from zigong.lakehouse.erasures import affected_models
from zigong.pipeline import STEPS, Step
from zigong.runs.handover import FinalModel
from zigong.runs.lease import holder_of
from zigong.runs.run import Outcome, Run, list_runs
from zigong.runs.steps import steps_of


def list_all(
    recipe: OnlyRecipe = None,
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list on standard output")] = False,
) -> None:
    """List runs with their outcomes; without --recipe or --root, of every lakehouse under build/lakehouse."""
    with named_errors():
        rows = [_run_row(item) for folder in _all_runs_folders(recipe, root) for item in list_runs(folder)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(title="runs")
    for column in ("run", "recipe", "created", "steps", "outcome", "retrain by", "metrics"):
        table.add_column(column, overflow="fold")
    shown = ("run_id", "recipe", "created_at", "steps", "outcome", "retrain_by", "metrics")
    for row in rows:
        table.add_row(*("" if row[key] is None else str(row[key]) for key in shown))
    CONSOLE.print(table)


def _all_runs_folders(recipe: Path | None, root: str | None) -> list[Path]:
    if recipe is not None or root is not None:
        return [runs_folder_of(recipe, root)]
    return sorted(Path("build/lakehouse").resolve().glob("*/_runs"))


def _run_row(run: Run) -> dict[str, object]:
    steps, model, unreadable = _readable(run)
    outcomes: list[Outcome] = [outcome for step in steps if (outcome := run.outcome(step.name)) is not None]
    done = sum(1 for outcome in outcomes if outcome.code == 0)
    state = "of another version" if unreadable else state_of(run, steps, outcomes)
    manifest = run.manifest()
    return {
        "run_id": run.run_id,
        "recipe": manifest["recipe"],
        "recipe_digest": manifest["recipe_digest"],
        "created_at": manifest["created_at"],
        "steps": f"{done}/{len(steps)}",
        "outcome": state,
        "retrain_by": affected_models(run.folder.parent.parent).get(model.model_id) if model else None,
        "folder": str(run.folder),
        "metrics": str(run.folder / "metrics.json"),
        "report": str(run.folder / "report.html"),
        "last": asdict(outcomes[-1]) if outcomes else None,
    }


def state_of(run: Run, steps: Sequence[Step], outcomes: Sequence[Outcome]) -> str:
    """The state of a run: running, interrupted, failed, finished, stopped on purpose, or not all started.

    A holder of the lease that has released it has written an outcome, or was stopped by Ctrl-C before.
    """
    holder, ended = holder_of(run.folder), {outcome.step: outcome for outcome in outcomes}
    if holder is not None and holder.seems_alive:
        return f"running {holder.step}"
    if holder is not None and holder.step in {step.name for step in steps}:
        last = ended.get(holder.step)
        if last is None or last.attempt != holder.token:
            return f"interrupted in {holder.step}"
    failed = [outcome for outcome in outcomes if outcome.code]
    if failed:
        return f"{failed[0].kind} in {failed[0].step}"
    if len(ended) == len(steps):
        return "ok"
    until = run.asked_until
    return f"ok until {until}" if until in ended else "unfinished"


def _readable(run: Run) -> tuple[tuple[Step, ...], FinalModel | None, bool]:
    """The steps and the final model of a run; all steps and True for a run of another version."""
    try:
        return steps_of(run.recipe), run.find(FinalModel), False
    except ConfigError:
        return STEPS, None, True
