"""Runs the steps of a recipe in order, in one process that shares one Spark session; resumes where a run stopped."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from zigong.console import set_up_logging
from zigong.errors import ConfigError
from zigong.instructions.tasks import load_tasks
from zigong.pipeline import Step
from zigong.recipe import Recipe
from zigong.recipe.feasible import require_feasible
from zigong.recipe.source import lakehouse_key, source_mapping
from zigong.runs.job import runs_folder
from zigong.runs.launch import Body, run_step
from zigong.runs.run import Outcome, Run, open_run
from zigong.runs.set_back import go_on
from zigong.runs.steps import steps_of


def start(recipe: Recipe, run_id: str | None) -> Run:
    """Creates or reopens a run and sets up its log.

    Raises:
        ConfigError: templates or mapping of the recipe are invalid, the key is missing, or ``as_of`` allows no label;
            checked before anything runs.
    """
    load_tasks(recipe.instructions)
    source_mapping(recipe)
    require_feasible(recipe)
    run = open_run(recipe, runs_folder(recipe), run_id)
    if run.outcome("ingest_events") is None:
        lakehouse_key(recipe)
    set_up_logging(run.run_id)
    go_on(run, run.folder.parent.parent)
    return run


def execute(run: Run, *, until: str | None = None) -> Iterator[tuple[Step, Outcome, bool]]:
    """Runs the steps that are not done yet.

    Yields:
        Each step with its outcome and whether it was already done; stops after the first failure.
    """
    steps = _up_to(steps_of(run.recipe), until)
    trains = any(step.name == "train_agent" for step in steps)
    run.ask(until)
    for step in steps:
        known = run.outcome(step.name)
        if known is not None and known.code == 0:
            yield step, known, True
            continue
        outcome = run_step(step.name, load_body(step.name), run, trains=trains)
        yield step, outcome, False
        if outcome.code:
            return


def load_body(step: str) -> Body:
    """The function of a job; jobs are a layer above the library, so they are found by name (docs/adr/0003)."""
    body: Body = getattr(importlib.import_module(f"jobs.{step}"), step)
    return body


def _up_to(steps: tuple[Step, ...], until: str | None) -> tuple[Step, ...]:
    names = [step.name for step in steps]
    if until is None:
        return steps
    if until not in names:
        raise ConfigError(f"--until {until}: no such step in this recipe", action=f"steps: {', '.join(names)}")
    return steps[: names.index(until) + 1]
