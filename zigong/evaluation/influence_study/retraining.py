"""The end-to-end check: the final model trained on the same number of high, low and random samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.influence_study.setting import Floats, Sizes, StudySetting
from zigong.evaluation.metrics import auc
from zigong.tokens.samples import Indices

ARMS = ("random", "mix", "high", "low", "high_loss", "low_loss")
INTERVAL, LEAD = ("auc", "low", "high"), ("lead_over_random", "lead_low", "lead_high")
COLUMNS = ("arm", "samples", *INTERVAL, *LEAD, "lowest_seed", "highest_seed")


def retrained_arms(
    setting: StudySetting, sizes: Sizes, *, seed: int, advance: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """AUC on the held-out samples by arm.

    Every arm holds ``mix.fraction`` of the pool: ``high`` and ``low`` are the ends of the ranking within each class (so
    all arms have the pool's bad rate), ``high_loss`` and ``low_loss`` those of plain loss, ``mix`` takes
    ``mix.influence_share`` from the top and the rest at random. Each seed has an agent, draws and trainings of its own.

    Returns:
        Columns of ``COLUMNS``: AUC of the mean answer of all seeds and its lead over random, with intervals over
        resampled persons, and the ends of the single seeds' AUC.
    """
    answers: dict[str, list[Floats]] = {arm: [] for arm in ARMS}
    count = 0
    for number in range(sizes.seeds):
        chosen = _arms(setting, seed + number)
        count = len(chosen["random"])
        for arm, indices in chosen.items():
            name = f"retrained_{arm}_{number}"
            answers[arm].append(setting.retrained(setting.train.take(indices), seed=seed + number, name=name))
            advance()
    labels = setting.held_out.label
    told = clustered_bootstrap(
        labels,
        {arm: np.mean(found, axis=0) for arm, found in answers.items()},
        np.array(setting.persons),
        replicates=setting.recipe.evaluation.bootstrap,
        confidence=setting.recipe.evaluation.confidence,
        seed=seed,
        reference="random",
    )
    rows = []
    for arm, found in answers.items():
        whole, single = told.auc[arm], [auc(labels, one) for one in found]
        behind = told.auc_differences.get(arm)
        leads = (-behind.value, -behind.high, -behind.low) if behind else (0.0, 0.0, 0.0)
        rows.append((arm, count, whole.value, whole.low, whole.high, *leads, min(single), max(single)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _arms(setting: StudySetting, seed: int) -> dict[str, Indices]:
    """Which samples each arm trains on; all arms have the same number of each label."""
    pool, mix = setting.train, setting.recipe.mix
    agent = setting.agent(pool, seed=seed, name=f"retraining_agent_{seed}")
    found = setting.scores(pool, agent, setting.targets).assign(label=pool.label)
    generator = np.random.default_rng([seed, 3])
    arms: dict[str, list[Indices]] = {arm: [] for arm in ARMS}
    for _, part in found.groupby("label"):
        size = round(mix.fraction * len(part))
        by_score = part["score"].sort_values(kind="stable", na_position="first").index.to_numpy()
        by_loss = part["loss"].sort_values(kind="stable", na_position="first").index.to_numpy()
        top = round(mix.influence_share * size)
        rest = generator.permutation(by_score[: len(by_score) - top])
        arms["random"].append(generator.permutation(by_score)[:size])
        arms["mix"].append(np.concatenate([by_score[len(by_score) - top :], rest[: size - top]]))
        arms["high"].append(by_score[-size:])
        arms["low"].append(by_score[:size])
        arms["high_loss"].append(by_loss[-size:])
        arms["low_loss"].append(by_loss[:size])
    return {arm: np.sort(np.concatenate(parts)) for arm, parts in arms.items()}
