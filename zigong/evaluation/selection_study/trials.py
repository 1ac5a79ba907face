"""Trains the trials of a plan, and keeps their answers in files, so that an interrupted study goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from zigong.errors import ConfigError, DataError
from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.selection_study.evidence import evidence_of
from zigong.evaluation.selection_study.plan import Plan, Trial
from zigong.evaluation.selection_study.rules import RULES, Evidence, Request
from zigong.evaluation.trial_store import TrialStore, trial_store
from zigong.tokens.samples import Samples

Answered = dict[Trial, Floats]


def store_of(setting: StudySetting, folder: Path) -> TrialStore:
    """The store of a setting's trials."""
    return trial_store(setting, folder, ("agent", "influence", "finetune", "mix"))


def run_trials(
    setting: StudySetting, plan: Plan, store: TrialStore, *, seed: int, advance: Callable[[int, int], None]
) -> Answered:
    """Trains every trial that has no answers in the store, and returns the answers of all.

    Args:
        setting: samples and settings.
        plan: the trials.
        store: answers of finished trials.
        seed: the first seed.
        advance: called with the finished trials and their number.

    Raises:
        DataError: a held-out split lacks a class.
        ConfigError: scores are those of single users, which cannot be ranked together.
    """
    _require_measurable(setting)
    trials, answered = list(plan.trials(seed)), Answered()
    agents = _Agents(setting)
    for done, trial in enumerate(trials, start=1):
        found = store.read(trial.key)
        if found is None:
            found = _trained(setting, trial, *agents.of(trial))
            store.write(trial.key, found, asdict(trial))
        answered[trial] = found
        advance(done, len(trials))
    return answered


def _require_measurable(setting: StudySetting) -> None:
    if setting.recipe.influence.scope == "user":
        raise ConfigError(
            "influence.scope: user gives scores of two scales, which the rules of the study would rank together",
            action="study a run with influence.scope: population",
        )
    for split in dict.fromkeys(setting.splits):
        labels = setting.held_out.label[np.array(setting.splits) == split]
        if len(set(labels.tolist())) < 2:
            raise DataError(
                f"{split}: expected good and bad samples, found {int(labels.sum())} bad of {len(labels)}",
                action="raise --held-out",
            )


class _Agents:
    """The pool and its evidence of the latest agent: trials of one agent follow each other."""

    def __init__(self, setting: StudySetting) -> None:
        self._setting = setting
        self._key: tuple[float, int] | None = None
        self._found: tuple[Samples, Evidence] | None = None

    def of(self, trial: Trial) -> tuple[Samples, Evidence]:
        key = (trial.flipped, trial.seed)
        if self._found is None or self._key != key:
            pool = self._setting.relabelled(_flipped(trial, len(self._setting.train)))
            name = f"agent_{trial.flipped}_{trial.seed}"
            self._key, self._found = key, (pool, evidence_of(self._setting, pool, seed=trial.seed, name=name))
        return self._found


def _flipped(trial: Trial, size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    generator = np.random.default_rng([trial.seed, 1])
    return np.sort(generator.permutation(size)[: round(trial.flipped * size)])


def _trained(setting: StudySetting, trial: Trial, pool: Samples, known: Evidence) -> Floats:
    generator = np.random.default_rng([trial.seed, trial.draw, 4])
    influence_share = setting.recipe.mix.influence_share
    asked = Request(known=known, share=trial.share, influence_share=influence_share, generator=generator)
    selection = RULES[trial.rule](asked)
    epochs = setting.recipe.finetune.epochs
    if trial.budget == "steps":
        epochs = max(epochs, round(epochs * len(pool) / len(selection.indices)))
    try:
        samples, seed = pool.take(selection.indices), training_seed(trial)
        return setting.retrained(samples, seed=seed, name=trial.key, epochs=epochs, weights=selection.weights)
    finally:
        shutil.rmtree(setting.scratch / trial.key, ignore_errors=True)


def training_seed(trial: Trial) -> int:
    """The seed of a trial's training: its seed and draw in one number."""
    return int.from_bytes(hashlib.sha256(f"{trial.seed}|{trial.draw}".encode()).digest()[:4]) >> 1


def without_next_events(setting: StudySetting) -> StudySetting:
    """The setting whose trainings have no loss but that of the answers, which the rules choose and weigh."""
    finetune = setting.recipe.finetune.model_copy(update={"next_event_weight": 0.0})
    return replace(setting, recipe=setting.recipe.model_copy(update={"finetune": finetune}))
