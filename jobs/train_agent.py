"""Trains the agent in time order on Ray Train: dataset_members (train) -> checkpoints."""

from typing import Any

from zigong.console import followed
from zigong.fanout.train import run_prepared_on_ray
from zigong.files.atomic import promoted_file
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks
from zigong.release.serving import serving_base
from zigong.runs.handover import Agent
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.tokens.samples import Samples
from zigong.training import trainer
from zigong.training.answer_rows import AnswerRange, require_attainable
from zigong.training.checkpoints import checkpoints_digest
from zigong.training.snapshots import Snapshots


def train_agent(job: Job) -> None:
    """One checkpoint per period; the workers map the samples, which one of them has read from the pinned tables."""
    recipe = job.recipe
    base, source, folder = serving_base(job), job.sample_source(), job.artefact_folder(Agent)
    encoder, snapshots = LineEncoder.of(base), Snapshots.of(job.scratch / "snapshots", recipe.engine)
    samples_file = job.scratch / "agent.arrow"
    choices = [encoder.completion(choice) for choice in load_tasks(recipe.instructions).main.choices]
    with followed(job.scratch / "progress.json", "agent (steps)") as report:

        def write() -> dict[str, Any]:
            with promoted_file(samples_file) as partial:
                source.write_prompts(source.members(["train"]), partial)
            return {}

        def work(_: dict[str, Any]) -> dict[str, Any]:
            samples, attained = Samples.mapped(samples_file), list[AnswerRange]()
            bad_rate = float(samples.label.mean())
            manifest = trainer.train_agent(
                base,
                samples,
                recipe.agent,
                seed=recipe.seed,
                torch_threads=recipe.engine.torch_threads,
                folder=folder,
                data={"dataset_id": source.dataset_id, "members_version": source.members_version},
                progress=lambda step, steps, loss: report(step, steps, f"loss {loss:.3f}"),
                snapshots=snapshots,
                sharded=recipe.engine.shard_base,
                inspect=lambda model: attained.append(require_attainable(model, choices, bad_rate=bad_rate)),
            )
            low, high = attained[0].p_bad
            trained = {"agent.checkpoints": len(manifest.checkpoints), "agent.samples": len(samples)}
            return {**trained, "base.lowest_p_bad": low, "base.highest_p_bad": high}

        figures = run_prepared_on_ray(write, work, engine=recipe.engine, name="agent", storage=job.scratch / "ray")
    samples_file.unlink()  # texts of clients, which an erasure would not find
    job.leave(Agent(folder=folder, checkpoints_digest=checkpoints_digest(folder)))
    job.run.add_metrics(figures)


if __name__ == "__main__":
    main("train_agent", train_agent)
