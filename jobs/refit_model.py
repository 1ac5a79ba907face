"""Trains the released model again on the samples of all splits: -> releases, registry."""

import pyarrow.dataset as ds

from zigong.dataset.members import SPLITS
from zigong.errors import ConfigError
from zigong.evaluation.asked_model import ModelFolders
from zigong.evaluation.boosting_teacher import teacher_of
from zigong.evaluation.final_training import train_on_ray
from zigong.evaluation.joint_training import tower_training
from zigong.lakehouse.audit_chain import Fact
from zigong.lakehouse.audit_log import append_facts
from zigong.release.refit import all_samples, judged_champion, refit_added, refit_of, release_rows
from zigong.release.registry import release
from zigong.release.serving import registry_of, required_champion, serving_base
from zigong.runs.card_values import EvaluatedCard
from zigong.runs.handover import FinalModel, GateDecision, RefittedModel
from zigong.runs.job import Job
from zigong.runs.launch import main


def refit_model(job: Job) -> None:
    """Only what the gate released is refitted; the refit becomes the champion."""
    recipe, final = job.recipe, job.take(FinalModel)
    if recipe.refit is None:
        raise ConfigError("the recipe has no section refit", action="add refit: {} to the recipe")
    if job.take(GateDecision).decision != "released":
        return
    card = job.take(EvaluatedCard)
    judged = judged_champion(required_champion(recipe), card)
    base, folder = serving_base(job), job.artefact_folder(RefittedModel)
    mix = job.arrow("training_mix", ["sample_id"], where=ds.field("mix_id") == final.trained_on)["sample_id"]
    teacher, _ = teacher_of(job, base, SPLITS)
    trained = train_on_ray(
        job,
        base,
        folder,
        settings=recipe.finetune.model_copy(update={"epochs": recipe.refit.epochs or recipe.finetune.epochs}),
        chosen=all_samples(job.sample_source(), mix.combine_chunks(), recipe, teacher),
        teacher=teacher,
        joint=tower_training(job, base, SPLITS) if card.head == "joint" else None,
        name="refit",
    )
    added = refit_added(job, card.head, folder)
    refit = refit_of(
        judged, ModelFolders(base=base, adapter=folder, added=added), adapter_digest=trained["digest"], trained=trained
    )
    released = release(registry_of(recipe), refit.candidate)
    rows = release_rows(job, refit, released.version)
    version = job.publish("releases", job.frame(rows), cells=f"run_id = '{job.run.run_id}'")
    entry = Fact(
        action="released",
        run_id=job.run.run_id,
        step=job.step,
        table_name="releases",
        cells=f"model_id = '{refit.left.model_id}'",
        version=version,
    )
    append_facts(job.paths, [entry])
    job.leave(refit.left)
    job.run.add_metrics({f"refit.{name}": float(trained[name]) for name in ("samples", "final_loss")})


if __name__ == "__main__":
    main("refit_model", refit_model)
