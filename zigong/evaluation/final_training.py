"""The training of the final model on a Ray Train worker, which reads the pinned samples itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from zigong.console import Advance, followed
from zigong.dataset.samples import SampleSource, of_task
from zigong.evaluation.ensemble import ensemble_teacher
from zigong.fanout.train import run_on_ray
from zigong.files.atomic import promoted_file
from zigong.instructions.tasks import main_task
from zigong.recipe import FinalTraining, Recipe
from zigong.runs.job import Job
from zigong.tokens.samples import Samples
from zigong.training import trainer
from zigong.training.adapters import AdapterManifest
from zigong.training.snapshots import Snapshots
from zigong.training.teacher import Teacher
from zigong.training.tower import TowerTraining

_TAUGHT = "p_bad_of_teacher"

Chosen = Callable[[], tuple[pa.Table, dict[str, Any]]]


def with_unlabelled(members: pa.Table, source: SampleSource, recipe: Recipe, teacher: Teacher | None) -> pa.Table:
    """The members to train on, and those without a label, if the recipe trains on what a teacher answers."""
    if teacher is None or not recipe.finetune.distil.unlabelled:
        return members
    return pa.concat_tables([members, source.unlabelled(teacher.choices[0])])


def train_on_ray(
    job: Job,
    base: Path,
    folder: Path,
    *,
    settings: FinalTraining,
    chosen: Chosen,
    teacher: Teacher | None,
    joint: TowerTraining | None = None,
    beside: tuple[Path, TowerTraining] | None = None,
    name: str,
    measured: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains an adapter on a worker, and a joint model beside it if there is one.

    Args:
        job: the job that asks for it.
        base: folder of the base model.
        folder: folder of the adapter.
        settings: the settings of the training.
        chosen: called on the worker; the members to train on with ``input_ids``, and JSON-serialisable facts about
            them.
        teacher: see ``trainer.train_adapter``; ``settings.distil.ensemble`` adds an ensemble's answers to it.
        joint: see ``trainer.train_adapter``.
        beside: folder and tower of a joint model that is trained on the same samples, with the same teacher.
        name: name of the training and of its folder under the job's scratch.
        measured: held-out splits on which the ensemble is measured.

    Returns:
        ``digest`` of the adapter, ``samples``, ``final_loss``, ``tokens_per_second``, the facts, and those of the
        ensemble.
    """
    recipe, snapshots = job.recipe.model_copy(update={"finetune": settings}), job.scratch / "snapshots"
    with followed(job.scratch / "progress.json", f"{name} (steps)") as report:
        prepared = _Prepared(
            recipe=recipe, base=base, source=job.sample_source(), teacher=teacher, measured=tuple(measured),
            file=job.scratch / f"{name}.arrow", report=report,
        )  # fmt: skip

        def trained(facts: dict[str, Any]) -> dict[str, Any]:
            samples, taught_by = prepared.read()

            def one(place: Path, tower: TowerTraining | None) -> AdapterManifest:
                return trainer.train_adapter(
                    base,
                    samples,
                    settings,
                    seed=recipe.seed,
                    torch_threads=recipe.engine.torch_threads,
                    folder=place,
                    teacher=taught_by,
                    joint=tower,
                    progress=lambda step, steps, loss: report(step, steps, f"loss {loss:.3f}"),
                    snapshots=Snapshots.of(snapshots / place.name, recipe.engine),
                )

            manifest = one(folder, joint)
            if beside is not None:
                of_joint = one(*beside)
                facts |= {"joint.digest": of_joint.adapter_digest, "joint.final_loss": of_joint.final_loss}
            return {
                "digest": manifest.adapter_digest,
                "samples": manifest.samples,
                "final_loss": manifest.final_loss,
                "tokens_per_second": manifest.tokens_per_second,
                **facts,
            }

        ray = partial(run_on_ray, engine=recipe.engine, storage=job.scratch / "ray")
        if recipe.engine.training_workers == 1:
            return ray(lambda: trained(prepared.write(chosen)), name=name)
        facts = ray(lambda: prepared.write(chosen), name=f"{name} samples", alone=True)
        return ray(lambda: trained(facts), name=name)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """The samples of a training, which one worker chooses and all read."""

    recipe: Recipe
    base: Path
    source: SampleSource
    teacher: Teacher | None
    measured: tuple[str, ...]
    file: Path
    report: Advance

    def write(self, chosen: Chosen) -> dict[str, Any]:
        """Writes the samples and the teacher's answers to them, and returns the facts about them."""
        members, facts = chosen()
        teacher = self.teacher
        if teacher is not None and self.recipe.finetune.distil.ensemble is not None:
            held_out = of_task(self.source.members(self.measured), main_task(self.recipe)) if self.measured else None
            asked = None if held_out is None else self.source.with_prompts(held_out)
            found = ensemble_teacher(self.base, self.recipe, members, teacher, held_out=asked, advance=self.report)
            teacher = found.teacher
            facts |= {f"ensemble.{name}": value for name, value in found.figures.items()}
        answers = {} if teacher is None else teacher.p_bad
        taught = pa.array([answers.get(key) for key in members["sample_id"].to_pylist()], pa.float64())
        with promoted_file(self.file) as partial_file, pa.OSFile(str(partial_file), "wb") as sink:
            table = members.append_column(_TAUGHT, taught)
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        return facts

    def read(self) -> tuple[Samples, Teacher | None]:
        """The samples, and the teacher of them."""
        with pa.memory_map(str(self.file)) as source:
            table = pa.ipc.open_file(source).read_all()
            samples = Samples.from_arrow(table)
            taught = zip(table["sample_id"].to_pylist(), table[_TAUGHT].to_pylist(), strict=True)
            answers = {key: value for key, value in taught if value is not None}
        return samples, None if self.teacher is None else replace(self.teacher, p_bad=answers)
