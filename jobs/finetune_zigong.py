"""Fine-tunes the final model on the training mix with Ray Train: training_mix -> adapter and manifest."""

import pyarrow.compute as pc

from zigong.console import followed
from zigong.evaluation.boosting_teacher import teacher_of
from zigong.evaluation.mix_proxy import mix_members, tested_mix
from zigong.fanout.train import run_on_ray
from zigong.release.serving import serving_base
from zigong.runs.handover import FinalModel, TrainingMix
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.tokens.samples import Samples
from zigong.training import trainer
from zigong.training.adapters import model_name


def finetune_zigong(job: Job) -> None:
    """LoRA on the mix, or on random samples if a small training shows that the mix is worse.

    The worker reads the pinned samples itself.
    """
    recipe = job.recipe
    base, source, folder = serving_base(job), job.sample_source(), job.artefact_folder(FinalModel)
    mixes = mix_members(job, job.take(TrainingMix))
    teacher, figures = teacher_of(job, base)
    with followed(job.scratch / "progress.json", "fine-tune (steps)") as report:

        def work() -> dict[str, float | str | None]:
            chosen, proxy = tested_mix(source, recipe, base, mixes)
            members = source.members(["train"])
            samples = Samples.from_arrow(
                source.with_prompts(members.filter(pc.is_in(members["sample_id"], mixes[chosen])))
            )
            manifest = trainer.train_adapter(
                base,
                samples,
                recipe.finetune,
                seed=recipe.seed,
                torch_threads=recipe.engine.torch_threads,
                folder=folder,
                teacher=teacher,
                progress=lambda step, steps, loss: report(step, steps, f"loss {loss:.3f}"),
            )
            return {
                "digest": manifest.adapter_digest,
                "trained_on": chosen,
                "test": proxy.sentence if proxy is not None else None,
                "samples": manifest.samples,
                "final_loss": manifest.final_loss,
                "tokens_per_second": manifest.tokens * recipe.finetune.epochs / manifest.seconds,
                **(proxy.figures if proxy is not None else {}),
            }

        trained = run_on_ray(work, engine=recipe.engine, name="zigong", storage=job.scratch / "ray")
    digest = trained.pop("digest")
    job.leave(
        FinalModel(
            model_id=model_name(digest),
            folder=folder,
            adapter_digest=digest,
            trained_on=trained.pop("trained_on"),
            mix_against_random=trained.pop("test"),
        )
    )
    job.run.add_metrics({f"finetune.{name}": value for name, value in {**trained, **figures}.items()})


if __name__ == "__main__":
    main("finetune_zigong", finetune_zigong)
