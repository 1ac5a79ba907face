"""Trains the final model under changed settings, several seeds each, and keeps the answers of every training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zigong.errors import ConfigError
from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.retraining import retrained_answers
from zigong.evaluation.training_study.figures import HeldOut
from zigong.evaluation.trial_store import TrialStore
from zigong.files.digests import json_digest
from zigong.recipe import Recipe
from zigong.recipe.load import changed_recipe
from zigong.training.teacher import Teacher

RECIPE = "recipe"  # the settings of the run, to which the others are compared

Answered = Mapping[str, Sequence[Floats]]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of the final model's training.

    Attributes:
        name: the changes as they were given; ``RECIPE`` without any.
        recipe: the recipe with the changes.
    """

    name: str
    recipe: Recipe

    def key(self, seed: int) -> str:
        """Digest of the training of a seed, as 16 hex digits."""
        return json_digest({"finetune": self.recipe.finetune.model_dump(mode="json"), "seed": seed})[:16]


def variants_of(recipe: Recipe, changes: Sequence[str]) -> tuple[Variant, ...]:
    """The recipe itself and one variant for each item of ``changes``.

    Args:
        recipe: the recipe of a run.
        changes: each one or more ``finetune.key=value``, separated by blanks.

    Raises:
        ConfigError: a change is malformed, is not of section finetune, or needs another teacher than the recipe's.
    """
    found = [Variant(name=RECIPE, recipe=recipe)]
    for change in dict.fromkeys(changes):
        changed = changed_recipe(recipe, change.split())
        _require_only_training(recipe, changed, change)
        found.append(Variant(name=change, recipe=changed))
    return tuple(found)


def _require_only_training(recipe: Recipe, changed: Recipe, change: str) -> None:
    def kept(of: Recipe) -> Recipe:
        distil = recipe.finetune.distil.model_copy(update={"weight": of.finetune.distil.weight})
        finetune = recipe.finetune.model_copy(update={"distil": distil})
        return of.model_copy(update={"finetune": finetune})

    teacher = changed.finetune.distil.model_copy(update={"weight": recipe.finetune.distil.weight})
    if kept(changed) != kept(recipe).model_copy(update={"finetune": kept(changed).finetune}):
        raise ConfigError(
            f"the change {change!r} is not of section finetune only",
            action="compare other settings by runs: zigong run --like RUN --from-step STEP --set ...",
        )
    if teacher != recipe.finetune.distil:
        raise ConfigError(
            f"the change {change!r} needs another teacher", action="of finetune.distil change only the weight"
        )


def held_out_of(setting: StudySetting) -> HeldOut:
    """The held-out samples of a setting."""
    return HeldOut(labels=setting.held_out.label, splits=np.array(setting.splits), persons=np.array(setting.persons))


def run_variants(
    setting: StudySetting,
    variants: Sequence[Variant],
    store: TrialStore,
    *,
    seeds: Sequence[int],
    teacher: Teacher | None,
    advance: Callable[[int, int], None],
) -> dict[str, list[Floats]]:
    """Trains every variant with every seed, unless the store has its answers.

    Args:
        setting: samples.
        variants: settings.
        store: answers of finished trainings.
        seeds: seeds of adapter, order and dropout.
        teacher: the answers that ``finetune.distil`` mixes with the labels.
        advance: called with the finished trainings and their number.

    Returns:
        p_bad of the held-out samples by variant, one array per seed.
    """
    answered: dict[str, list[Floats]] = {variant.name: [] for variant in variants}
    trials = [(variant, seed) for seed in seeds for variant in variants]
    for done, (variant, seed) in enumerate(trials, start=1):
        found = store.read(variant.key(seed))
        if found is None:
            found = _trained(setting, variant, seed, teacher)
            store.write(variant.key(seed), found, {"settings": variant.name, "seed": seed})
        answered[variant.name].append(found)
        advance(done, len(trials))
    return answered


def _trained(setting: StudySetting, variant: Variant, seed: int, teacher: Teacher | None) -> Floats:
    folder, (good, bad) = setting.scratch / variant.key(seed), setting.completions
    try:
        return retrained_answers(
            setting.base,
            variant.recipe,
            setting.train,
            setting.held_out,
            completions=(good, bad),
            seed=seed,
            folder=folder,
            teacher=teacher,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
