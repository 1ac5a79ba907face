"""The training of the final model on a Ray Train worker, which reads the pinned samples itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from zigong.console import followed
from zigong.dataset.samples import SampleSource, of_task
from zigong.evaluation.boosted_training import BoostedInputs, fit_boosted
from zigong.evaluation.ensemble import taught_by
from zigong.fanout.train import run_on_ray
from zigong.instructions.tasks import main_task
from zigong.recipe import FinalTraining, Recipe
from zigong.runs.job import Job
from zigong.tokens.samples import Samples
from zigong.training import trainer
from zigong.training.adapters import AdapterManifest
from zigong.training.teacher import Teacher
from zigong.training.tower import TowerTraining

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
    boosted: BoostedInputs | None = None,
    name: str,
    measured: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains an adapter on a worker, and fits what is asked for beside it.

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
        boosted: what a boosted card is fitted on, after the training; None: there is none.
        name: name of the training and of its folder under the job's scratch.
        measured: held-out splits on which the ensemble is measured.

    Returns:
        ``digest`` of the adapter, ``samples``, ``final_loss``, ``tokens_per_second``, the facts, and those of the
        ensemble, the joint model and the boosted card.
    """
    recipe, source = job.recipe.model_copy(update={"finetune": settings}), job.sample_source()
    with followed(job.scratch / "progress.json", f"{name} (steps)") as report:

        def work() -> dict[str, Any]:
            members, facts = chosen()
            asked = None
            if measured and settings.distil.ensemble is not None:
                asked = source.with_prompts(of_task(source.members(measured), main_task(recipe)))
            taught, figures = taught_by(base, recipe, members, teacher, held_out=asked, advance=report)
            facts |= figures
            samples = Samples.from_arrow(members)

            def trained(place: Path, tower: TowerTraining | None) -> AdapterManifest:
                return trainer.train_adapter(
                    base,
                    samples,
                    settings,
                    seed=recipe.seed,
                    torch_threads=recipe.engine.torch_threads,
                    folder=place,
                    teacher=taught,
                    joint=tower,
                    progress=lambda step, steps, loss: report(step, steps, f"loss {loss:.3f}"),
                )

            manifest = trained(folder, joint)
            if beside is not None:
                of_joint = trained(*beside)
                facts |= {"joint.digest": of_joint.adapter_digest, "joint.final_loss": of_joint.final_loss}
            if boosted is not None:
                trees, figures = fit_boosted(base, recipe, members, folder, boosted, source, advance=report)
                facts |= {"boosted.trees": trees, **{f"boosted.{name}": value for name, value in figures.items()}}
            return {
                "digest": manifest.adapter_digest,
                "samples": manifest.samples,
                "final_loss": manifest.final_loss,
                "tokens_per_second": manifest.tokens_per_second,
                **facts,
            }

        return run_on_ray(work, engine=recipe.engine, name=name, storage=job.scratch / "ray")
