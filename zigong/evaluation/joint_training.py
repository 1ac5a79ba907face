"""The joint training of a run: the features of its samples as inputs, and the model that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zigong.dataset.samples import of_task
from zigong.errors import ConfigError
from zigong.evaluation.baselines import features_of_members, without_profile
from zigong.evaluation.boosting_teacher import answered_splits
from zigong.evaluation.feature_words import FeatureWords
from zigong.evaluation.fusion import card_name
from zigong.evaluation.joint import Joint
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks, main_task
from zigong.recipe.source import source_mapping
from zigong.runs.card_values import JointModel
from zigong.runs.job import Job
from zigong.training.adapters import CONFIG, WEIGHTS
from zigong.training.file_digests import FileDigests
from zigong.training.tower import TOWER_FILES, TowerTraining


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
    members = of_task(job.sample_source().members(answered_splits(recipe, splits)), main_task(recipe))
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


def joint_beside(job: Job, base: Path) -> tuple[Path, TowerTraining] | None:
    """Folder and tower of the joint model that ``card.joint`` asks for beside the final model.

    Args:
        job: the job that trains the final model.
        base: folder of the base model.
    """
    tower = tower_training(job, base, ["train"])
    return None if tower is None else (job.artefact_folder(JointModel), tower)


def leave_joint(job: Job, adapter_digest: str) -> None:
    """Leaves the joint model that was trained in its folder.

    Args:
        job: the job that trained it.
        adapter_digest: digest of its adapter.
    """
    folder, outcomes = job.artefact_folder(JointModel), tuple(source_mapping(job.recipe).outcome_events)
    added = Joint(tower=FileDigests.of(folder, TOWER_FILES), outcome_events=outcomes)
    job.leave(
        JointModel(
            model_id=card_name(added, adapter_digest),
            folder=folder,
            joint_digest=FileDigests.of(folder, (WEIGHTS, CONFIG, *TOWER_FILES)).digest,
            outcome_events=outcomes,
        )
    )
