"""Trains the lightweight scorer in time order on Ray Train: dataset_members (train) -> checkpoints."""

from zigong.console import followed
from zigong.fanout.train import run_on_ray
from zigong.release.serving import serving_base
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.tokens.samples import Samples
from zigong.training import trainer


def train_agent(job: Job) -> None:
    """One checkpoint per period; the worker reads the pinned samples itself."""
    recipe, run = job.recipe, job.run
    base, source, folder = serving_base(run), job.sample_source(), run.artifact("agent")
    with followed(run.artifact("progress.json"), "agent (steps)") as report:

        def work() -> dict[str, float]:
            samples = Samples.from_arrow(source.labelled(["train"]))
            manifest = trainer.train_agent(
                base,
                samples,
                recipe.agent,
                seed=recipe.seed,
                torch_threads=recipe.engine.torch_threads,
                folder=folder,
                data={"dataset_id": source.dataset_id, "members_version": source.members_version},
                progress=lambda step, steps, loss: report(step, steps, f"loss {loss:.3f}"),
            )
            return {"agent.checkpoints": len(manifest.checkpoints), "agent.samples": len(samples)}

        figures = run_on_ray(work, engine=recipe.engine, name="agent", storage=run.artifact("ray"))
    run.add_metrics(figures)


if __name__ == "__main__":
    main("train_agent", train_agent)
