"""End-to-end check: the final model trained on equal numbers of high, low and random samples."""

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

    Every arm contains ``mix.fraction`` of the pool: ``high`` and ``low`` are the ends of the ranking by score within
    each class (so all arms have the bad rate of the pool), ``high_loss`` and ``low_loss`` those of the ranking by loss;
    ``mix`` has ``mix.influence_share`` from the top and the rest at random. Each seed has its own agent, random numbers
    and trainings.

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
    result = clustered_bootstrap(
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
        overall, by_seed = result.auc[arm], [auc(labels, one) for one in found]
        deficit = result.auc_differences.get(arm)
        leads = (-deficit.value, -deficit.high, -deficit.low) if deficit else (0.0, 0.0, 0.0)
        rows.append((arm, count, overall.value, overall.low, overall.high, *leads, min(by_seed), max(by_seed)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _arms(setting: StudySetting, seed: int) -> dict[str, Indices]:
    """The samples of each arm; all arms have the same number per label."""
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
