"""The base and the champion that a lakehouse is scored with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zigong.errors import ConfigError, DataError
from zigong.evaluation.fusion import FusedPart
from zigong.evaluation.published_features import PublishedFeatures
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.evaluation.refolding import HistoryPolicy
from zigong.features.settings import FeatureSettings
from zigong.instructions.numbers import NumberWords, words_from_text
from zigong.instructions.prompt_spec import PromptSpec
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe
from zigong.release.registry import Champion, ModelRegistry, champion
from zigong.runs.handover import FittedNumbers, TrainedBase
from zigong.runs.job import Job
from zigong.training.pretrained import TOKENIZER, require_usable


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


def published_features(job: Job) -> PublishedFeatures | None:
    """The features that a job's run has built; None if it has not."""
    built = job.run.outcome("build_features")
    return None if built is None or built.code else PublishedFeatures.of(job)


def fused_part(
    champion: Champion, sequences: PublishedSequences, features: PublishedFeatures | None = None
) -> FusedPart | None:
    """What a champion adds to its model, with the sequences that it is asked about; None where nothing is added.

    A champion of another recipe may read longer histories, or state other outcome events, time zone or currency: its
    features are then computed from the sequences.

    Args:
        features: features of the same sequences, if there are any.
    """
    fusion, folder = champion.model.fusion, champion.folders.added
    if fusion is None or folder is None:
        return None
    prompts = champion.model.asked.prompts
    own = FeatureSettings(
        outcome_events=tuple(sorted(fusion.outcome_events)),
        timezone=prompts.timezone,
        currency=prompts.settings.currency,
        max_events=prompts.settings.max_events,
        attributes=prompts.settings.counted_attributes,
    )
    usable = features if features is not None and features.settings == own else None
    return FusedPart(fusion=fusion, folder=folder, prompts=prompts, sequences=sequences, features=usable)


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
        ConfigError: none of the three exists, the trained base was changed later, or that of the recipe is not usable.
        DataError: the champion's tokenizer differs from the registered one.
    """
    if job.find(TrainedBase) is not None:
        return job.take(TrainedBase).folder
    named = require_usable(job.recipe)
    if named is not None:
        return named
    serving = champion(registry_of(job.recipe))
    if serving is None:
        raise ConfigError(
            f"run {job.run.run_id} has no base model: none was trained in it, base.path is not set, "
            "and there is no champion",
            action="run build_base in this run, or set base.path",
        )
    serving.model.asked.base.verify(serving.folders.base, [TOKENIZER])
    return serving.folders.base


def run_prompts(job: Job) -> PromptSpec:
    """The settings that render the prompts of a job's run.

    Those of its recipe. A run that only scores fits no bins of numbers: if the recipe needs them, it takes the settings
    and the bins of the champion.

    Raises:
        ConfigError: the recipe needs bins, the run has not fitted any, and there is no champion.
        DataError: the file of the bins cannot be read.
    """
    numbers, recipe = fitted_numbers(job), job.recipe
    if numbers is None and recipe.instructions.quantiles is not None:
        serving = champion(registry_of(recipe))
        if serving is not None:
            return serving.model.asked.prompts
    return PromptSpec.of_recipe(recipe, numbers)


def fitted_numbers(job: Job) -> NumberWords | None:
    """The bins that a job's run fitted; None if it has none.

    Raises:
        ConfigError: the file was changed later.
        DataError: the file cannot be read.
    """
    if job.find(FittedNumbers) is None:
        return None
    file = job.take(FittedNumbers).folder / FittedNumbers.FILES[0]
    return words_from_text(file.read_text(encoding="utf-8"), origin=str(file))
