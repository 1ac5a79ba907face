"""The training of the final model on a Ray Train worker, which reads the pinned samples itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zigong.console import followed
from zigong.fanout.train import run_on_ray
from zigong.recipe import FinalTraining
from zigong.runs.job import Job
from zigong.tokens.samples import Samples
from zigong.training import trainer
from zigong.training.teacher import Teacher
from zigong.training.tower import TowerTraining

Chosen = Callable[[], tuple[Samples, dict[str, Any]]]


def train_on_ray(
    job: Job,
    base: Path,
    folder: Path,
    *,
    settings: FinalTraining,
    chosen: Chosen,
    teacher: Teacher | None,
    joint: TowerTraining | None = None,
    name: str,
) -> dict[str, Any]:
    """Trains an adapter on a worker.

    Args:
        job: the job that asks for it.
        base: folder of the base model.
        folder: folder of the adapter.
        settings: the settings of the training.
        chosen: called on the worker; the samples, and JSON-serialisable facts about them.
        teacher: see ``trainer.train_adapter``.
        joint: see ``trainer.train_adapter``.
        name: name of the training and of its folder under the job's scratch.

    Returns:
        ``digest`` of the adapter, ``samples``, ``final_loss``, ``tokens_per_second``, and the facts.
    """
    recipe = job.recipe
    with followed(job.scratch / "progress.json", f"{name} (steps)") as report:

        def work() -> dict[str, Any]:
            samples, facts = chosen()
            manifest = trainer.train_adapter(
                base,
                samples,
                settings,
                seed=recipe.seed,
                torch_threads=recipe.engine.torch_threads,
                folder=folder,
                teacher=teacher,
                joint=joint,
                progress=lambda step, steps, loss: report(step, steps, f"loss {loss:.3f}"),
            )
            return {
                "digest": manifest.adapter_digest,
                "samples": manifest.samples,
                "final_loss": manifest.final_loss,
                "tokens_per_second": manifest.tokens * settings.epochs / manifest.seconds,
                **facts,
            }

        return run_on_ray(work, engine=recipe.engine, name=name, storage=job.scratch / "ray")
