"""The base and the champion that a lakehouse is scored with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zigong.errors import ConfigError, DataError
from zigong.evaluation.fusion import FusedPart
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.evaluation.refolding import HistoryPolicy
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe
from zigong.release.registry import Champion, ModelRegistry, champion
from zigong.runs.handover import TrainedBase
from zigong.runs.job import Job
from zigong.training.file_digests import TOKENIZER


def registry_of(recipe: Recipe) -> ModelRegistry:
    """The registry of a recipe: by default an SQLite file in the lakehouse."""
    folder = LakehousePaths.at(recipe.lakehouse.root).local("registry")
    return ModelRegistry(
        uri=recipe.registry.uri or f"sqlite:///{folder / 'mlflow.db'}",
        artifacts=folder / "artifacts",
        model_name=recipe.registry.model_name,
        experiment=recipe.registry.experiment,
    )


def published_sequences(job: Job) -> PublishedSequences:
    """The sequences of a job's recipe, which any model may be asked about."""
    recipe = job.recipe
    return PublishedSequences(
        root=job.paths.root,
        version=job.version("user_sequences"),
        population=job.population,
        policy=HistoryPolicy(max_events=recipe.instructions.max_events, timezone=recipe.business_timezone),
    )


def fused_part(champion: Champion, sequences: PublishedSequences) -> FusedPart | None:
    """What a champion adds to its model, with the sequences that it is asked about; None where nothing is added."""
    fusion, folder = champion.model.fusion, champion.folders.added
    if fusion is None or folder is None:
        return None
    return FusedPart(fusion=fusion, folder=folder, prompts=champion.model.asked.prompts, sequences=sequences)


def required_champion(recipe: Recipe, reasons: Sequence[str] = ()) -> Champion:
    """The current champion, which must exist.

    Args:
        reasons: reasons of the gate for refusing the run's own model.

    Raises:
        DataError: no model has been released.
    """
    serving = champion(registry_of(recipe))
    if serving is None:
        raise DataError(
            f"there is no champion: no model has been released. {' '.join(reasons)}".rstrip(),
            action="train one that passes the gate (recipe sections finetune, mix and gate), then score",
        )
    return serving


def serving_base(job: Job) -> Path:
    """The base whose tokenizer encodes the prompts of a job's run.

    The base trained in this run, or the base of the recipe, or, in a run that only scores, the base of the champion.

    Raises:
        ConfigError: none of the three exists, or the trained base was changed later.
        DataError: the champion's tokenizer differs from the registered one.
    """
    if job.find(TrainedBase) is not None:
        return job.take(TrainedBase).folder
    if job.recipe.base.path is not None:
        return Path(job.recipe.base.path).resolve()
    serving = champion(registry_of(job.recipe))
    if serving is None:
        raise ConfigError(
            f"run {job.run.run_id} has no base model: none was trained in it, base.path is not set, "
            "and there is no champion",
            action="run build_base in this run, or set base.path",
        )
    serving.model.asked.base.verify(serving.folders.base, [TOKENIZER])
    return serving.folders.base
