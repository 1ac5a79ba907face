"""Starts a new run on what another one left: steps that a changed setting does not touch are not repeated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from zigong.errors import ConfigError
from zigong.files.atomic import promoted_folder
from zigong.lakehouse.erasures import refuse_replay
from zigong.pipeline import STEPS, Step
from zigong.recipe import Recipe
from zigong.runs import handover
from zigong.runs.job import runs_folder
from zigong.runs.lease import take_lease
from zigong.runs.run import Run, known_run
from zigong.runs.steps import steps_of
from zigong.runs.value import Artefact

# The first step that reads a key, by the longest beginning of its path; a key that is not listed counts as read by the
# first step of all.
FIRST_READERS: dict[str, str] = {
    "source": "ingest_events",
    "business_timezone": "ingest_events",
    "lakehouse": "ingest_events",
    "as_of": "build_labels",
    "observations": "build_labels",
    "labels": "build_labels",
    "instructions": "fit_numbers",
    "instructions.max_events": "build_sequences",
    "instructions.currency": "build_sequences",
    "base": "build_base",
    "seed": "build_base",
    "split": "fit_numbers",
    "duplicates": "build_dataset",
    "agent": "train_agent",
    "agent.context_length": "build_instructions",
    "finetune": "finetune_zigong",
    "finetune.context_length": "build_instructions",
    "finetune.distil.unlabelled": "build_labels",
    "influence": "score_influence",
    "mix": "score_influence",
    "evaluation": "evaluate_model",
    "card": "evaluate_model",
    "card.joint": "finetune_zigong",
    "card.boosted": "finetune_zigong",
    "gate": "release_model",
    "refit": "refit_model",
}
_FREE = ("name", "engine", "registry", "lakehouse.root")  # change no table and no model
# Beginnings of the figures in metrics.json that a step measures, in addition to rows and seconds.
_FIGURES: dict[str, tuple[str, ...]] = {
    "ingest_events": ("users.",),
    "fit_numbers": ("numbers.",),
    "build_base": ("base.",),
    "build_instructions": ("instructions.",),
    "build_dataset": ("dataset.", "duplicates.", "contamination."),
    "train_agent": ("agent.",),
    "score_influence": ("influence.",),
    "mix_samples": ("mix.",),
    "finetune_zigong": ("finetune.",),
    "evaluate_model": ("evaluation.", "oot.", "select.", "test."),
    "release_model": ("gate.",),
    "refit_model": ("refit.",),
}
_SMALL_TABLES = {"score_influence": "influence_", "mix_samples": "selection_"}


def former_run(recipe: Recipe, run_id: str, from_step: str) -> Run:
    """The run to take over from, checked before anything is written.

    Args:
        recipe: the recipe of the new run.
        run_id: the run to take over from; it is in the same lakehouse.
        from_step: the first step that the new run takes itself.

    Raises:
        ConfigError: step or run does not exist, the run has not finished a step before, users were erased since, or a
            setting that those steps read differs; the message names each.
    """
    names = [step.name for step in steps_of(recipe)]
    if from_step not in names:
        raise ConfigError(f"--from-step {from_step}: no such step in this recipe", action=f"steps: {', '.join(names)}")
    former = known_run(runs_folder(recipe), run_id)
    if former is None:
        raise ConfigError(
            f"--like {run_id}: no such run in {recipe.lakehouse.root}",
            action="`zigong runs ls` lists the runs of a lakehouse; use its lakehouse.root",
        )
    refuse_replay(former.folder.parent.parent, run_id, former.manifest()["created_at"])
    skipped = names[: names.index(from_step)]
    _require_equal_settings(recipe, former, names, from_step)
    open_steps = [name for name in skipped if (found := former.outcome(name)) is None or found.code]
    if open_steps:
        raise ConfigError(
            f"--like {run_id}: the run has not finished {open_steps[0]}, which comes before {from_step}",
            action=f"finish it, or start from {open_steps[0]} or an earlier step",
        )
    return former


def take_over(run: Run, former: Run, from_step: str) -> None:
    """Copies what the steps before ``from_step`` left; steps that the run has already done stay as they are.

    The outcome of a step is copied last, so an interrupted take-over is repeated from where it stopped.

    Args:
        run: the new run.
        former: a run that passed :func:`former_run`.
        from_step: the first step that the new run takes itself.

    Raises:
        ConfigError: a file of the former run differs from its digest.
    """
    with take_lease(run.folder, f"take over from {former.run_id}"):
        for step in steps_of(run.recipe):
            if step.name == from_step:
                return
            if run.outcome(step.name) is None:
                _take_over_step(run, former, step)


def first_reader(path: str) -> str | None:
    """The first step that reads a key of the recipe; None if no table and no model depends on it."""
    if any(_begins(path, free) for free in _FREE):
        return None
    known = [prefix for prefix in FIRST_READERS if _begins(path, prefix)]
    return FIRST_READERS[max(known, key=len)] if known else "ingest_events"


def _begins(path: str, prefix: str) -> bool:
    return f"{path}.".startswith(f"{prefix}.")


def _require_equal_settings(recipe: Recipe, former: Run, names: list[str], from_step: str) -> None:
    old = dict(_leaves(former.recipe.model_dump(mode="json")))
    new = dict(_leaves(recipe.model_dump(mode="json")))
    readers = {path: _reader_in(names, path) for path in {**old, **new} if old.get(path) != new.get(path)}
    skipped = names[: names.index(from_step)]
    wrong = {path: step for path, step in readers.items() if step in skipped}
    if wrong:
        earliest = min(wrong.values(), key=names.index)
        named = ", ".join(
            f"{path} (there {old.get(path)}, here {new.get(path)}; read by {step})" for path, step in wrong.items()
        )
        raise ConfigError(
            f"--like {former.run_id}: settings of skipped steps differ: {named}",
            action=f"use --from-step {earliest} or an earlier step, or set them as in {former.run_id}",
        )


def _reader_in(names: list[str], path: str) -> str | None:
    """The first of a recipe's steps that may read a key; None if none does."""
    reader = first_reader(path)
    order = [step.name for step in STEPS]
    later = [name for name in names if reader is not None and order.index(name) >= order.index(reader)]
    return next(iter(later), None)


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Path and value of every setting; lists are one value."""
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _take_over_step(run: Run, former: Run, step: Step) -> None:
    outcome = former.outcome(step.name)
    if outcome is None:
        return
    for kind in handover.VALUES:
        if kind.__name__ in outcome.leaves:
            value = former.take(kind)
            run.leave(_copied(value, run) if isinstance(value, Artefact) else value)
    for table in outcome.tables:
        version = former.pinned_version(table)
        if version is not None:
            run.pin(table, version)
    starts = (f"seconds.{step.name}", *(f"rows.{table}." for table in outcome.tables), *_FIGURES.get(step.name, ()))
    run.add_metrics({name: value for name, value in former.metrics().items() if name.startswith(starts)})
    for name, rows in former.small_tables().items():
        if name.startswith(_SMALL_TABLES.get(step.name, "\0")):
            run.write_table(name, rows)
    note = f"taken over from run {former.run_id}"
    run.write_outcome(replace(outcome, message=note))


def _copied(value: Artefact, run: Run) -> Artefact:
    """The artefact with its files in the folder of the run."""
    target = run.artefact_folder(type(value))
    with promoted_folder(target) as partial:
        shutil.copytree(value.folder, partial, dirs_exist_ok=True)
    return replace(value, folder=target)
