"""The joint training of a run: the features of its samples as inputs, and the model that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zigong.dataset.samples import of_task
from zigong.errors import ConfigError
from zigong.evaluation.baselines import features_of_members, without_profile
from zigong.evaluation.feature_words import FeatureWords
from zigong.evaluation.final_training import train_on_ray
from zigong.evaluation.fusion import card_name
from zigong.evaluation.joint import Joint
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks, main_task
from zigong.recipe.source import source_mapping
from zigong.runs.handover import JointModel
from zigong.runs.job import Job
from zigong.tokens.samples import Samples
from zigong.training.adapters import CONFIG, WEIGHTS
from zigong.training.file_digests import FileDigests
from zigong.training.teacher import Teacher
from zigong.training.tower import TOWER_FILES, TowerTraining

TRAIN = "train"


def tower_training(job: Job, base: Path, splits: Sequence[str]) -> TowerTraining | None:
    """Features of the main question's members of some splits as inputs of the training that ``card.joint`` asks for.

    Args:
        job: the job that reads the tables.
        base: folder of the base model, whose tokenizer encodes the choices.
        splits: the splits.

    Returns:
        None if the recipe asks for no joint model.

    Raises:
        ConfigError: a choice has several tokens.
    """
    recipe, settings = job.recipe, job.recipe.card.joint
    if settings is None:
        return None
    members = of_task(job.sample_source().members(splits), main_task(recipe))
    features = features_of_members(job, members)
    columns = list(features.columns)
    used = columns if settings.profile else without_profile(columns)
    words = FeatureWords.of(features, used, quantiles=settings.quantiles)
    encoder = LineEncoder.of(base)
    tokens = [encoder.completion(choice) for choice in load_tasks(recipe.instructions).main.choices]
    if any(len(ids) != 1 for ids in tokens):
        raise ConfigError(
            f"card.joint needs choices of one token each, the tokenizer of {base} makes {[list(t) for t in tokens]}",
            action="choose a template whose choices are one token of this base, or card.head: fused",
        )
    return TowerTraining(
        settings=settings,
        rows={key: row for row, key in enumerate(members["sample_id"].to_pylist())},
        inputs=words(features),
        sizes=words.sizes,
        choices=(int(tokens[0][0]), int(tokens[1][0])),
        columns=words.as_json(),
    )


def train_joint(job: Job, base: Path, teacher: Teacher | None, *, mix: pa.Array) -> None:
    """Trains the joint model that ``card.joint`` asks for like the final model, and leaves it.

    Args:
        job: the job that trains the final model.
        base: folder of the base model.
        teacher: the teacher of the final model.
        mix: sample_ids of the mix of the final model.
    """
    source, folder = job.sample_source(), job.artefact_folder(JointModel)
    outcomes = source_mapping(job.recipe).outcome_events

    def chosen() -> tuple[Samples, dict[str, Any]]:
        members = source.members([TRAIN])
        return Samples.from_arrow(source.with_prompts(members.filter(pc.is_in(members["sample_id"], mix)))), {}

    trained = train_on_ray(
        job,
        base,
        folder,
        settings=job.recipe.finetune,
        chosen=chosen,
        teacher=teacher,
        joint=tower_training(job, base, [TRAIN]),
        name="joint",
    )
    added = Joint(tower=FileDigests.of(folder, TOWER_FILES), outcome_events=tuple(outcomes))
    job.leave(
        JointModel(
            model_id=card_name(added, trained.pop("digest")),
            folder=folder,
            joint_digest=FileDigests.of(folder, (WEIGHTS, CONFIG, *TOWER_FILES)).digest,
            outcome_events=added.outcome_events,
        )
    )
    job.run.add_metrics({f"finetune.joint.{name}": value for name, value in trained.items()})
