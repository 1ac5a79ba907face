"""The training of the final model on the workers of Ray Train, which map the samples that one of them has chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from zigong.console import followed
from zigong.dataset.samples import SampleSource
from zigong.evaluation.boosted_training import BoostedInputs, fit_boosted
from zigong.evaluation.chosen_samples import Choose, ChosenSamples
from zigong.fanout.train import run_on_ray, run_prepared_on_ray
from zigong.recipe import FinalTraining, Recipe
from zigong.runs.job import Job
from zigong.training import trainer
from zigong.training.adapters import AdapterManifest
from zigong.training.snapshots import Snapshots
from zigong.training.teacher import Teacher
from zigong.training.tower import TowerTraining


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
    choose: Choose,
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
        choose: called on the worker; the members to train on, without prompts, and JSON-serialisable facts about them.
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
    source = job.sample_source()
    recipe, snapshots = job.recipe.model_copy(update={"finetune": settings}), job.scratch / "snapshots"
    with followed(job.scratch / "progress.json", f"{name} (steps)") as report:
        chosen = ChosenSamples(
            recipe=recipe,
            base=base,
            source=source,
            choose=choose,
            teacher=teacher,
            measured=tuple(measured),
            folder=job.scratch / f"{name}-samples",
            advance=report,
        )

        def trained(facts: dict[str, Any]) -> dict[str, Any]:
            samples, taught = chosen.samples()

            def one(place: Path, tower: TowerTraining | None) -> AdapterManifest:
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
                    snapshots=Snapshots.of(snapshots / place.name, recipe.engine),
                    sharded=recipe.engine.shard_base,
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

        def added(facts: dict[str, Any]) -> dict[str, Any]:
            if boosted is None:
                return facts
            trees, figures = fit_boosted(base, recipe, chosen.members(), folder, boosted, source, advance=report)
            return facts | {"boosted.trees": trees, **{f"boosted.{name}": value for name, value in figures.items()}}

        engine, storage, alone = recipe.engine, job.scratch / "ray", recipe.engine.training_workers == 1
        work = (lambda facts: added(trained(facts))) if alone else trained
        facts = run_prepared_on_ray(chosen.write, work, engine=engine, name=name, storage=storage)
        if boosted is not None and not alone:  # what trains several models is the work of one worker
            of_model = facts
            facts = run_on_ray(
                lambda: added(of_model), engine=engine, name=f"{name}-trees", storage=storage, alone=True
            )
    chosen.remove()
    return facts
