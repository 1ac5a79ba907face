"""Training with loss on completions only: the final model in random order, the agent in time order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from zigong.errors import ConfigError, DataError
from zigong.files.atomic import promoted_folder, write_json
from zigong.files.digests import files_digest
from zigong.recipe import AgentTraining, FinalTraining, Training
from zigong.tokens.samples import NO_LABEL, Indices, Samples, sample_lengths, trainable
from zigong.training.adapters import AdapterManifest, adapter_digest, new_adapter, save_adapter, trained_weights
from zigong.training.base import MANIFEST, base_digest
from zigong.training.checkpoints import (
    SECOND_MOMENTS,
    Checkpoint,
    CheckpointManifest,
    months_per_period,
    period_name,
    read_checkpoints,
    save_second_moments,
    write_checkpoints,
)
from zigong.training.folders import read_json
from zigong.training.loading import frozen_options
from zigong.training.loop import run_steps
from zigong.training.optimise import OptimiserStep, Progress, second_moments
from zigong.training.placement import placed
from zigong.training.plan import Units, plan_steps, sample_periods, single_units, tree_units
from zigong.training.pretrained import end_ids
from zigong.training.snapshots import PERIODS, Snapshots
from zigong.training.teacher import Teacher
from zigong.training.team import Team
from zigong.training.tower import TowerTraining, save_tower
from zigong.training.whole import full_rank_adapter, trainable_base


def train_adapter(
    base_folder: Path,
    samples: Samples,
    settings: FinalTraining,
    *,
    seed: int,
    torch_threads: int,
    folder: Path,
    teacher: Teacher | None = None,
    weights: Mapping[str, float] | None = None,
    joint: TowerTraining | None = None,
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
    sharded: bool = False,
) -> AdapterManifest:
    """Trains the final model's adapter on samples in random order.

    The result depends on the samples, not on their order in the table. In a process group of torch all processes train
    it together, each with the same arguments, and the first one writes the files.

    Args:
        base_folder: folder of the base model.
        samples: training samples, each trained once per epoch.
        settings: recipe section ``finetune``.
        seed: seed of adapter, order and dropout.
        torch_threads: threads of one operation.
        folder: folder of the adapter and its manifest; written atomically.
        teacher: answers that ``settings.distil`` mixes with the hard labels; None: only the hard labels count.
        weights: weight of each sample's loss by sample_id, for ``next_event_weight: 0``; None: all weigh 1.
        joint: a tower that is trained with the adapter and saved beside it; None: the adapter alone.
        progress: called with step, steps and loss.
        snapshots: where the state is saved in mid-run, and a killed training goes on; None: nowhere.
        sharded: whether several processes divide the frozen weights.

    Raises:
        DataError: a sample is too long or has no token in the loss, not every sample was trained, or the answers of
            teacher or tower do not fit the samples, or are missing for samples without a label.
        ConfigError: base or adapter settings do not fit, or weights meet a next-event loss.
    """
    if weights is not None and settings.next_event_weight:
        raise ConfigError("samples with weights need finetune.next_event_weight: 0", action="set it to 0")
    started = time.monotonic()
    options = frozen_options(settings)
    adapted = None if settings.lora is None else new_adapter(base_folder, settings.lora, seed=seed, **options)
    team = Team.present(sharded=sharded)
    model = placed(trainable_base(base_folder) if adapted is None else adapted.get_base_model(), settings, team)
    ordered = _ordered(model, samples, settings)
    taught = teacher is not None and settings.distil.weight > 0
    if not taught and (ordered.label == NO_LABEL).any():
        raise DataError(
            f"{int((ordered.label == NO_LABEL).sum())} samples have no label, and there is no teacher",
            action="set finetune.distil.weight above 0, or leave out the samples of the split unlabelled",
        )
    if teacher is not None:
        ordered = teacher.without_guesses(ordered)
    units = replace(_units(ordered, [np.arange(len(ordered))], settings), next_event_weight=settings.next_event_weight)
    if teacher is not None and settings.distil.weight:
        units = replace(units, soft=teacher.soft_answers(ordered, weight=settings.distil.weight))
    if weights is not None:
        of_samples = (weights[key] for key in ordered.sample_id)
        units = replace(units, weights=np.fromiter(of_samples, dtype=np.float64, count=len(ordered)))
    tower = None if joint is None else joint.new_tower(model.config.hidden_size, seed=seed).to(model.device)
    if joint is not None and tower is not None:
        units = replace(units, head=joint.head(tower, ordered))
    losses = run_steps(
        model,
        units,
        plan_steps(units, settings, seed=seed, team=team),
        settings,
        seed=seed,
        torch_threads=torch_threads,
        progress=progress,
        clip=settings.max_grad_norm,
        tower=tower,
        team=team,
        snapshots=snapshots,
    )
    if team.leads:
        with promoted_folder(folder) as place:
            if joint is not None and tower is not None:
                save_tower(tower, joint.columns, place)
            manifest = AdapterManifest(
                adapter_digest=save_adapter(adapted or full_rank_adapter(base_folder, model), place),
                base_digest=base_digest(base_folder),
                samples=len(ordered),
                steps=len(losses),
                tokens=int(sample_lengths(ordered).sum()) * settings.epochs,
                seconds=round(time.monotonic() - started, 3),
                final_loss=float(np.mean(losses[-max(1, len(losses) // 20) :])),
                seed=seed,
                settings=settings.model_dump(mode="json"),
            )
            write_json(place / MANIFEST, asdict(manifest))
        if snapshots is not None:
            snapshots.end()
    team.wait()
    return AdapterManifest(**read_json(folder / MANIFEST))


def train_agent(
    base_folder: Path,
    samples: Samples,
    settings: AgentTraining,
    *,
    seed: int,
    torch_threads: int,
    folder: Path,
    data: Mapping[str, Any],
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
    sharded: bool = False,
    inspect: Callable[[PreTrainedModel], None] = lambda _: None,
) -> CheckpointManifest:
    """Trains the lightweight scorer period by period, in time order, and saves one adapter per period.

    One optimiser is used for all periods; within a period the order is random. The learning rate is constant after
    warm-up, so the schedule gives no period more weight than another.

    Args:
        base_folder: folder of the base model.
        samples: train samples.
        settings: recipe section ``agent``.
        seed: seed of adapter, order within periods and dropout.
        torch_threads: threads of one operation.
        folder: folder of adapters and manifest; written atomically.
        data: names and versions of the training data, recorded in the manifest.
        progress: called with step, steps and loss.
        snapshots: as in :func:`train_adapter`.
        sharded: as in :func:`train_adapter`.
        inspect: called with the base before the first step; what it raises ends the training.

    Raises:
        DataError: a sample is too long or has no token in the loss, or not every sample was trained.
        ConfigError: there are fewer dates (or, with one date, samples) than checkpoints.
    """
    adapted = new_adapter(base_folder, settings.lora, seed=seed, **frozen_options(settings))
    team = Team.present(sharded=sharded)
    model = placed(adapted.get_base_model(), settings, team)
    inspect(model)
    ordered = _ordered(model, samples, settings)
    periods = sample_periods(ordered, settings.checkpoints, seed=seed)
    units = _units(ordered, periods, settings)
    plan = plan_steps(units, settings, seed=seed, team=team)
    kept = folder.with_name(f".{folder.name}.periods") if snapshots is None else snapshots.folder / PERIODS

    def keep(number: int, optimizer: torch.optim.Optimizer) -> None:
        if team.leads:
            save_adapter(adapted, kept / period_name(number))
            save_second_moments(second_moments(optimizer, trained_weights(adapted)), kept / period_name(number))

    run_steps(
        model,
        units,
        plan,
        settings,
        seed=seed,
        torch_threads=torch_threads,
        progress=progress,
        after_period=keep,
        team=team,
        snapshots=snapshots,
    )
    if team.leads:
        with promoted_folder(folder) as place:
            for number in range(len(periods)):
                shutil.copytree(kept / period_name(number), place / period_name(number))
            checkpoints = [
                _checkpoint(ordered, period, steps, place, number)
                for number, (period, steps) in enumerate(zip(periods, plan, strict=True))
            ]
            manifest = CheckpointManifest(
                folder=folder,
                checkpoints=tuple(checkpoints),
                base_digest=base_digest(base_folder),
                lora=settings.lora,
                count_eos=settings.count_eos,
                context_length=settings.context_length,
                months_per_period=months_per_period(ordered.observation_date, settings.checkpoints),
                data=dict(data),
            )
            write_checkpoints(manifest, place)
        if snapshots is not None:
            snapshots.end()
        shutil.rmtree(kept, ignore_errors=True)
    team.wait()
    return read_checkpoints(folder)


def _ordered(model: PreTrainedModel, samples: Samples, settings: Training) -> Samples:
    """The samples with the completions that bear loss, sorted by date and key, independent of the table's order."""
    known = trainable(
        samples,
        ends=end_ids(model.config),
        count_eos=settings.count_eos,
        context_length=settings.context_length,
    )
    return known.by_date()


def _units(samples: Samples, periods: Sequence[Indices], settings: Training) -> Units:
    divided = tree_units if settings.engine == "trees" else single_units
    return divided(samples, periods)


def _checkpoint(
    samples: Samples, period: Indices, steps: Sequence[OptimiserStep], place: Path, number: int
) -> Checkpoint:
    """The description of the checkpoint of a period, whose files are in ``place``."""
    name = period_name(number)
    return Checkpoint(
        name=name,
        period=number,
        last_observation_date=max(samples.observation_date[index] for index in period),
        eta=float(sum(step.rate for step in steps)),
        adapter=name,
        adapter_digest=adapter_digest(place / name),
        second_moments_digest=files_digest({SECOND_MOMENTS: place / name / SECOND_MOMENTS}),
        samples=len(period),
        steps=len(steps),
    )
