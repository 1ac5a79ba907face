"""Fine-tunes the final model on the training mix with Ray Train: training_mix -> adapter and manifest."""

import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.console import followed
from zigong.fanout.train import run_on_ray
from zigong.release.serving import serving_base
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.tokens.samples import Samples
from zigong.training import trainer


def finetune_zigong(job: Job) -> None:
    """LoRA on the mix; the worker reads the pinned samples itself."""
    recipe, run = job.recipe, job.run
    base, source, folder = serving_base(run), job.sample_source(), run.artifact("zigong")
    mix_id = run.fact("mix_id")
    mix = job.arrow("training_mix", ["sample_id"], where=ds.field("mix_id") == mix_id)["sample_id"]
    with followed(run.artifact("progress.json"), "fine-tune (steps)") as report:

        def work() -> dict[str, float | str]:
            members = source.members(["train"])
            samples = Samples.from_arrow(source.with_prompts(members.filter(pc.is_in(members["sample_id"], mix))))
            manifest = trainer.train_adapter(
                base,
                samples,
                recipe.finetune,
                seed=recipe.seed,
                torch_threads=recipe.engine.torch_threads,
                folder=folder,
                progress=lambda step, steps, loss: report(step, steps, f"loss {loss:.3f}"),
            )
            return {
                "digest": manifest.adapter_digest,
                "samples": manifest.samples,
                "final_loss": manifest.final_loss,
                "tokens_per_second": manifest.tokens * recipe.finetune.epochs / manifest.seconds,
            }

        trained = run_on_ray(work, engine=recipe.engine, name="zigong", storage=run.artifact("ray"))
    run.note(model_id=f"zigong-{trained.pop('digest')[:16]}")
    run.add_metrics({f"finetune.{name}": value for name, value in trained.items()})


if __name__ == "__main__":
    main("finetune_zigong", finetune_zigong)
