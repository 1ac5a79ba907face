"""The models of finished runs as trainings of a study: groups of runs that differ in settings, one run per seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from zigong.dataset.members import final_split
from zigong.dataset.samples import of_task
from zigong.errors import ConfigError, DataError
from zigong.evaluation.compared_trainings import Floats
from zigong.evaluation.held_out import Published
from zigong.evaluation.measured import evaluated_model, models_by_head
from zigong.evaluation.stored_answers import stored_answers
from zigong.evaluation.training_study.figures import HeldOut
from zigong.instructions.tasks import main_task
from zigong.runs.job import Job

CARD = "card"  # the model that a run has evaluated for release
_KEYS = ("split", "user_id", "loan_id", "observation_date")  # of a sample; its sample_id also depends on its text


def groups_of(named: Sequence[str]) -> dict[str, list[str]]:
    """Run ids by the name of their settings.

    Args:
        named: items such as ``no teacher=run-a,run-b``.

    Raises:
        ConfigError: an item is malformed, a name is there twice, there is one group only, or the groups differ in size.
    """
    groups = dict[str, list[str]]()
    for item in named:
        name, _, runs = item.partition("=")
        ids = [run for run in runs.split(",") if run]
        if not name or not ids or name in groups:
            raise ConfigError(f"expected NAME=RUN,RUN with a name of its own, found {item!r}", action="name each group")
        groups[name] = ids
    if len(groups) < 2 or len({len(ids) for ids in groups.values()}) > 1:
        sizes = ", ".join(f"{name} {len(ids)}" for name, ids in groups.items())
        raise ConfigError(
            f"expected two or more groups with one run per seed each, found {sizes}",
            action="name the runs of the seeds in the same order in every group",
        )
    return groups


def finished_answers(groups: Mapping[str, Sequence[Job]], head: str) -> tuple[HeldOut, dict[str, list[Floats]]]:
    """The held-out samples of all runs, and the calibrated p_bad of a model of each run.

    Args:
        groups: jobs of the runs by the name of their settings, one per seed.
        head: ``card``, or a head that every run has: lm, fused, joint or boosted.

    Raises:
        ConfigError: a run has no such model.
        DataError: the runs have other held-out samples, or other labels of them.
    """
    first = _members(next(chain.from_iterable(groups.values())))
    held_out = HeldOut(
        labels=np.asarray(first["label"]), splits=np.asarray(first["split"]), persons=np.asarray(first["unit"])
    )
    return held_out, {name: [_answers(job, head, first) for job in jobs] for name, jobs in groups.items()}


def _members(job: Job) -> pa.Table:
    """The samples of ``select`` and of the final split, sorted by their keys; ``unit`` is their cluster."""
    recipe = job.recipe
    found = of_task(job.sample_source().members(("select", final_split(recipe))), main_task(recipe))
    return found.append_column("unit", found[recipe.split.unit]).sort_by([(key, "ascending") for key in _KEYS])


def _answers(job: Job, head: str, expected: pa.Table) -> Floats:
    members = _members(job)
    if not members.select([*_KEYS, "label"]).equals(expected.select([*_KEYS, "label"])):
        raise DataError(
            f"run {job.run.run_id} has other held-out samples or labels than the first run: {len(members)}, "
            f"expected {len(expected)}",
            action="compare runs with equal observations, labels and split",
        )
    model_id = evaluated_model(job.run) if head == CARD else models_by_head(job).get(head)
    if model_id is None:
        raise ConfigError(
            f"run {job.run.run_id} has no model {head}", action=f"it has {', '.join(models_by_head(job)) or 'none'}"
        )
    return Published.of(members, {model_id: stored_answers(job, model_id, members)}).scores[model_id]
