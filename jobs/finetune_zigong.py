"""Fine-tunes the final model on the training mix with Ray Train: training_mix -> adapter and manifest."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zigong.dataset.members import final_split
from zigong.evaluation.boosted_card import boosted_beside, leave_boosted
from zigong.evaluation.boosting_teacher import teacher_of
from zigong.evaluation.final_training import train_on_ray, with_unlabelled
from zigong.evaluation.joint_training import joint_beside, leave_joint
from zigong.evaluation.mix_proxy import SELECT, choose_mix, mix_members
from zigong.release.serving import serving_base
from zigong.runs.handover import FinalModel, TrainingMix
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.training.adapters import model_name


def finetune_zigong(job: Job) -> None:
    """LoRA on the mix, or on random samples if a small training shows that the mix is worse; then the other cards."""
    recipe = job.recipe
    base, source, folder = serving_base(job), job.sample_source(), job.artefact_folder(FinalModel)
    mixes = mix_members(job, job.take(TrainingMix))
    teacher, figures = teacher_of(job, base, ["train"])

    def chosen() -> tuple[pa.Table, dict[str, Any]]:
        mix_id, proxy = choose_mix(source, recipe, base, mixes)
        members = source.members(["train"])
        mixed = members.filter(pc.is_in(members["sample_id"], mixes[mix_id]))
        found = proxy.figures if proxy is not None else {}
        test = proxy.sentence if proxy is not None else None
        return with_unlabelled(mixed, source, recipe, teacher), {
            "trained_on": mix_id,
            "test": test,
            **found,
        }

    trained = train_on_ray(
        job,
        base,
        folder,
        settings=recipe.finetune,
        choose=chosen,
        teacher=teacher,
        beside=joint_beside(job, base),
        boosted=boosted_beside(job, base),
        name="fine-tune",
        measured=(SELECT, final_split(recipe)),
    )
    if recipe.card.joint is not None:
        leave_joint(job, trained.pop("joint.digest"))
    digest, mix_id = trained.pop("digest"), trained.pop("trained_on")
    if recipe.card.boosted is not None:
        leave_boosted(job, digest, trained.pop("boosted.trees"))
    if mix_id != next(iter(mixes)):
        job.warn(f"the mix is not used: {trained['test']}")
    job.leave(
        FinalModel(
            model_id=model_name(digest),
            folder=folder,
            adapter_digest=digest,
            trained_on=mix_id,
            mix_against_random=trained.pop("test"),
        )
    )
    job.run.add_metrics({f"finetune.{name}": value for name, value in {**trained, **figures}.items()})


if __name__ == "__main__":
    main("finetune_zigong", finetune_zigong)
