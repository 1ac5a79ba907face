"""Which base and which champion serve a lakehouse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zigong.errors import ConfigError, DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe
from zigong.release.registry import Champion, ModelRegistry, champion
from zigong.runs.handover import TrainedBase
from zigong.runs.job import Job
from zigong.training.file_digests import TOKENIZER


def registry_of(recipe: Recipe) -> ModelRegistry:
    """The registry a recipe names: by default an sqlite file under the lakehouse."""
    folder = LakehousePaths.at(recipe.lakehouse.root).local("registry")
    return ModelRegistry(
        uri=recipe.registry.uri or f"sqlite:///{folder / 'mlflow.db'}",
        artifacts=folder / "artifacts",
        model_name=recipe.registry.model_name,
        experiment=recipe.registry.experiment,
    )


def required_champion(recipe: Recipe, reasons: Sequence[str] = ()) -> Champion:
    """The champion that serves.

    Args:
        reasons: why the gate refused the run's own model.

    Raises:
        DataError: no model was ever released.
    """
    serving = champion(registry_of(recipe))
    if serving is None:
        raise DataError(
            f"there is no champion: no model was ever released. {' '.join(reasons)}".rstrip(),
            action="train one that passes the gate (recipe sections finetune, mix and gate), then score",
        )
    return serving


def serving_base(job: Job) -> Path:
    """The base whose tokenizer the prompts of a job's run are encoded with.

    The base this run trained, or the one the recipe names, or, in a run that only scores, the champion's.

    Raises:
        ConfigError: there is none of the three, or the trained one was changed since.
        DataError: the champion's tokenizer is not the one that was registered.
    """
    if job.find(TrainedBase) is not None:
        return job.take(TrainedBase).folder
    if job.recipe.base.path is not None:
        return Path(job.recipe.base.path).resolve()
    serving = champion(registry_of(job.recipe))
    if serving is None:
        raise ConfigError(
            f"run {job.run.run_id} has no base model: none was trained in it, none is named, and there is no champion",
            action="run build_base in this run, or set base.path",
        )
    serving.model.asked.base.verify(serving.folders.base, [TOKENIZER])
    return serving.folders.base
