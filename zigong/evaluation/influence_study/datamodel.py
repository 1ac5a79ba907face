"""Linear datamodeling score (Park et al. 2023): do summed scores of a subset predict the result of training on it?

An agent is trained on each of several random halves of the pool, from the same initial adapter. The measure is
Spearman's correlation, over the halves, of the sum of the scores with the negative mean loss on the targets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from zigong.evaluation.influence_study.setting import BAD, GOOD, Floats, Sizes, StudySetting
from zigong.tokens.samples import Indices

COLUMNS = ("targets", "predictor", "correlation", "low", "high", "subsets")
RESAMPLES = 1000


def datamodeling_score(
    setting: StudySetting, sizes: Sizes, *, seed: int, advance: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Spearman's correlation by predictor, for all targets, the good and the bad ones.

    Predictors: ``tracseq`` for those targets, from one agent trained on the complete pool; ``loss`` of the samples
    under that agent; ``random`` numbers. Intervals resample the halves.

    Args:
        setting: samples and settings.
        sizes: sizes of the study; ``subsets`` is the number of halves.
        seed: seed of the halves; every training starts from the same adapter and order.
        advance: called after every training.

    Returns:
        Columns of ``COLUMNS``.
    """
    generator = np.random.default_rng([seed, 2])
    size = len(setting.train)
    halves = [np.sort(generator.permutation(size)[: size // 2]) for _ in range(sizes.subsets)]
    agent = setting.agent(setting.train, seed=seed, name="datamodel_whole")
    outcomes = []
    for number, half in enumerate(halves):
        folder = setting.agent(setting.train.take(half), seed=seed, name=f"datamodel_{number}")
        outcomes.append(setting.target_losses(folder))
        advance()
    losses = np.stack(outcomes)
    rows = []
    for name, chosen in _target_groups(setting).items():
        found = setting.scores(setting.train, agent, setting.targets.take(chosen)).fillna(0.0)
        predictors: dict[str, Floats] = {
            "tracseq": found["score"].to_numpy(),
            "loss": found["loss"].to_numpy(),
            "random": generator.normal(size=size),
        }
        negative_loss = -losses[:, chosen].mean(axis=1)
        for predictor, values in predictors.items():
            sums = np.array([values[half].sum() for half in halves])
            rows.append((name, predictor, *_correlation(sums, negative_loss, seed), len(halves)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _target_groups(setting: StudySetting) -> dict[str, Indices]:
    label = setting.targets.label
    return {
        "all": np.arange(len(label)),
        "good": np.flatnonzero(label == GOOD),
        "bad": np.flatnonzero(label == BAD),
    }


def _correlation(first: Floats, second: Floats, seed: int) -> tuple[float, float, float]:
    """Spearman's correlation with the 95% percentile interval over resampled pairs; 0 where a side is constant."""
    draws = np.random.default_rng(seed).integers(len(first), size=(RESAMPLES, len(first)))
    low, high = np.quantile(_spearman(first[draws], second[draws]), [0.025, 0.975])
    return float(_spearman(first[None], second[None])[0]), float(low), float(high)


def _spearman(first: Floats, second: Floats) -> Floats:
    """Rank correlation of each row: [N, M] and [N, M] to [N]."""
    a, b = (rankdata(side, axis=1) - (side.shape[1] + 1) / 2 for side in (first, second))
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    found: Floats = np.divide((a * b).sum(axis=1), spread, out=np.zeros(len(a)), where=spread > 0)
    return found
