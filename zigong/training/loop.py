"""The loop of a training: seeds, optimiser, snapshots in mid-run, and the count of what was trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zigong.recipe import Training
from zigong.tokens.samples import Indices
from zigong.training.optimise import ADAM_BETAS, ADAM_EPS, OptimiserStep, Progress, take_steps
from zigong.training.plan import Units
from zigong.training.snapshots import Clock, Course, Snapshots
from zigong.training.team import Team
from zigong.training.tower import Tower


def run_steps(
    model: PreTrainedModel,
    units: Units,
    plan: Sequence[Sequence[OptimiserStep]],
    settings: Training,
    *,
    seed: int,
    torch_threads: int,
    progress: Progress | None,
    clip: float | None = None,
    tower: Tower | None = None,
    team: Team,
    snapshots: Snapshots | None,
    after_period: Callable[[int, torch.optim.Optimizer], None] = lambda *_: None,
) -> list[float]:
    """Takes all steps with one optimiser and returns their losses; requires that every epoch trains every sample.

    A training with snapshots goes on after the last one of the same training. On one CPU the weights are then equal to
    the last bit to those of a training that was never interrupted.

    Args:
        model: the model, whose trainable parameters learn.
        units: samples or trees.
        plan: the steps of each period, with the batches of this process.
        settings: learning rate and weight decay.
        seed: of dropout.
        torch_threads: threads of one operation.
        progress: called with step, steps and loss.
        clip: largest gradient norm; None: no clipping.
        tower: trained with the model; None: there is none.
        team: the processes that train together.
        snapshots: where the state is saved; None: nowhere.
        after_period: called with the number of a period and the optimiser after its last step, before a snapshot that
            contains this step.

    Raises:
        DataError: a sample was not trained once in every epoch.
    """
    torch.set_num_threads(torch_threads)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    steps = [step for period in plan for step in period]
    ends = {int(end): number for number, end in enumerate(np.cumsum([len(period) for period in plan]))}
    parameters = {name: item for name, item in model.named_parameters() if item.requires_grad}
    optimizer = torch.optim.AdamW(
        list(parameters.values()),
        lr=settings.learning_rate,
        betas=ADAM_BETAS,
        eps=ADAM_EPS,
        weight_decay=settings.weight_decay,
    )
    if tower is not None:
        optimizer.add_param_group(tower.parameter_group())
        parameters |= {f"tower.{name}": item for name, item in tower.named_parameters()}
    trained = np.zeros(len(units.samples), dtype=np.int64)
    course = Course(
        identity="" if snapshots is None else _identity(units, plan, settings, parameters, seed),
        parameters=parameters,
        optimizer=optimizer,
        trained=trained,
        losses=[],
    )
    clock = None if snapshots is None else Clock(snapshots.every_s)

    def passed(batch: Indices) -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            return units.summed_loss(model, batch)

    def summed_loss(batch: Indices) -> Tensor:
        np.add.at(trained, units.among(batch), 1)
        return passed(batch)

    def report(loss: float) -> None:
        course.losses.append(loss)
        done = len(course.losses)
        if done in ends:
            after_period(ends[done], optimizer)
        if snapshots is not None and clock is not None and team.agreed(clock.due()):
            course.save(snapshots.folder, team)
        if progress is not None and team.leads:
            progress(done, len(steps), loss)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        model.train()
        if snapshots is not None:
            course.resume(snapshots.folder, leads=team.leads)
        rest = steps[len(course.losses) :]
        first = np.zeros(1, dtype=np.int64)
        take_steps(
            rest,
            optimizer=optimizer,
            summed_loss=summed_loss,
            idle=lambda: 0 * passed(first),
            clip=clip,
            report=report,
            team=team,
        )
    model.eval()
    model.activation_checkpointing_disable()
    units.require_trained(team.summed(trained), settings.epochs)
    return course.losses


def _identity(
    units: Units,
    plan: Sequence[Sequence[OptimiserStep]],
    settings: Training,
    parameters: dict[str, nn.Parameter],
    seed: int,
) -> str:
    """SHA-256 of what determines a training: samples, steps, settings, seed, and the weights that it begins with."""
    found = hashlib.sha256()
    steps = [[(step.rate, step.total) for step in period] for period in plan]
    found.update(json.dumps([settings.model_dump(mode="json"), seed, steps]).encode())
    for key, prompt, answer in zip(
        units.samples.sample_id, units.samples.input_ids, units.samples.completion_ids, strict=True
    ):
        found.update(key.encode())
        found.update(np.asarray(prompt, dtype=np.int64).tobytes() + b"|" + np.asarray(answer, dtype=np.int64).tobytes())
    columns: list[npt.NDArray[Any]] = [] if units.soft is None else [units.soft.p_bad, units.soft.weight]
    if units.head is not None:
        columns += [units.head.inputs, units.head.asked]
    for column in [*columns, *([] if units.weights is None else [units.weights])]:
        found.update(column.tobytes())
    for name, parameter in parameters.items():
        found.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()
