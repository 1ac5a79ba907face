"""ZiGong's training loop: `ours.py FOLDER SET samples|trees WORKERS`, `... resume`, or `... memory N mapped|held`."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import torch
from peft import PeftModel
from torch import distributed
from torch.multiprocessing.spawn import spawn

from benchmarks.scorers.inputs import SampleSet
from benchmarks.trainers.inputs import BATCH, RATE, answered, fresh_model, training_set
from zigong.recipe import FinalTraining
from zigong.tokens.columns import mapped_table
from zigong.tokens.samples import Samples, trainable
from zigong.training.loop import run_steps
from zigong.training.plan import Units, plan_steps, single_units, tree_units
from zigong.training.snapshots import Snapshots
from zigong.training.team import Team

LENGTH = 60  # tokens of the prompts whose memory is measured
CELL = 1000  # samples of a cell of its file


def as_samples(found: SampleSet) -> Samples:
    """The set as our columns."""
    count = len(found)
    return Samples(
        sample_id=tuple(f"s{index:07d}" for index in range(count)),
        user_id=tuple(found.users),
        observation_date=(date(2024, 1, 1),) * count,
        matured_at=(datetime(2024, 7, 1, tzinfo=UTC),) * count,
        label=np.array([answer[0] - 1 for answer in found.answers]),
        input_ids=tuple(np.asarray(ids, dtype=np.int32) for ids in found.prompts),
        completion_ids=tuple(np.asarray(ids, dtype=np.int32) for ids in found.answers),
    )


def settings_of(engine: str) -> FinalTraining:
    """One epoch at a constant rate."""
    return FinalTraining(
        engine=engine, batch_size=BATCH, learning_rate=RATE, schedule="constant", warmup_steps=0, context_length=1024
    )


def units_of(found: SampleSet, engine: str) -> Units:
    """The samples, or one tree per user."""
    samples = as_samples(found)
    divided = tree_units if engine == "trees" else single_units
    return divided(samples, [np.arange(len(samples))])


def planned_batches(found: SampleSet, engine: str) -> list[list[int]]:
    """The samples of each step of our plan."""
    (steps,) = plan_steps(units_of(found, engine), settings_of(engine), seed=1)
    return [[int(index) for batch in step.batches for index in batch] for step in steps]


def trained(
    model: PeftModel, units: Units, engine: str, team: Team, stop: int | None = None, folder: Path | None = None
) -> float:
    """The mean loss of the last three steps."""
    settings = settings_of(engine)

    def end_at(done: int, _steps: int, _loss: float) -> None:
        if done == stop:
            raise KeyboardInterrupt

    losses = run_steps(
        model.get_base_model(),
        units,
        plan_steps(units, settings, seed=1, team=team),
        settings,
        seed=1,
        torch_threads=1,
        progress=end_at,
        team=team,
        snapshots=None if folder is None else Snapshots(folder=folder, every_s=0),
    )
    return float(np.mean(losses[-3:]))


def alone(folder: Path, name: str, engine: str) -> None:
    """Trains in this process."""
    found, model = training_set(name), fresh_model(folder)
    with answered() as figures:
        figures["loss"] = trained(model, units_of(found, engine), engine, Team())


def together(rank: int, folder: Path, name: str, engine: str, size: int, meeting: str) -> None:
    """One of several processes that train together; the first one answers."""
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    found, model = training_set(name), fresh_model(folder)
    units = units_of(found, engine)
    torch.set_num_threads(1)
    distributed.barrier()
    if rank == 0:
        with answered() as figures:
            figures["loss"] = trained(model, units, engine, Team.present())
    else:
        trained(model, units, engine, Team.present())
    distributed.destroy_process_group()


def resumed(folder: Path) -> None:
    """Trains half of the steps, stops, and goes on from the snapshot."""
    units = units_of(training_set("ragged"), "samples")
    with tempfile.TemporaryDirectory() as place, answered() as figures:
        try:
            trained(fresh_model(folder), units, "samples", Team(), stop=3, folder=Path(place))
        except KeyboardInterrupt:
            figures["loss"] = trained(fresh_model(folder), units, "samples", Team(), folder=Path(place))


def memory(folder: Path, count: int, way: str) -> None:
    """Memory that ``count`` samples, mapped or held, and the plan of their steps add to the process of a training."""
    fresh_model(folder)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "samples.arrow")
        write_file(file, count)
        with answered() as figures:
            before = resident("RssAnon")
            samples = Samples.mapped(file) if way == "mapped" else Samples.from_arrow(mapped_table(file))
            known = trainable(samples, ends=(), count_eos=False, context_length=1024).by_date()
            units = single_units(known, [np.arange(count)])
            plan = plan_steps(units, settings_of("samples"), seed=1)
            figures["anonymous"], figures["mapped"] = resident("RssAnon") - before, resident("RssFile")
            figures["steps"] = len(plan[0])


def write_file(file: Path, count: int) -> None:
    """Samples of ``LENGTH`` + 1 tokens, as a training's file of cells."""
    draw = np.random.default_rng(1)
    with ExitStack() as stack:
        writer = None
        for start in range(0, count, CELL):
            size = min(CELL, count - start)
            keys = [f"{number:064x}" for number in range(start, start + size)]
            lists = pa.FixedSizeListArray.from_arrays(draw.integers(3, 100, size * LENGTH, dtype=np.int32), LENGTH)
            cell = pa.table(
                {
                    "sample_id": keys,
                    "user_id": keys,
                    "observation_date": [date(2024, 1, 1)] * size,
                    "matured_at": [datetime(2024, 7, 1, tzinfo=UTC)] * size,
                    "label": np.zeros(size, dtype=np.int32),
                    "input_ids": lists.cast(pa.list_(pa.int32())),
                    "completion_ids": pa.array([[1]] * size, pa.list_(pa.int32())),
                }
            )
            writer = writer or stack.enter_context(pa.ipc.new_file(str(file), cell.schema))
            writer.write_table(cell)


def resident(kind: str) -> float:
    """MiB of this process's memory: ``RssAnon``, its own, or ``RssFile``, pages of files that it can lose."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(lines[kind].removesuffix("kB")) / 1024


def main(folder: str, name: str, *more: str) -> None:
    """Dispatches."""
    if name == "resume":
        resumed(Path(folder))
    elif name == "memory":
        memory(Path(folder), int(more[0]), more[1])
    elif int(more[1]) == 1:
        alone(Path(folder), name, more[0])
    else:
        with tempfile.TemporaryDirectory() as place:
            size = int(more[1])
            spawn(together, (Path(folder), name, more[0], size, f"{place}/meeting"), nprocs=size)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(*sys.argv[1:])
