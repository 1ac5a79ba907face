"""Detection of wrong labels: some labels are flipped, an agent is trained on all samples, and each score ranks them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.influence_study.setting import Floats, Sizes, StudySetting

COLUMNS = ("detector", "seed", "auc", "low", "high")


def mislabel_detection(setting: StudySetting, sizes: Sizes, *, seed: int) -> pd.DataFrame:
    """AUC of each detector of flipped labels, for one seed.

    Detectors: ``tracseq``, the lowest scores; ``tracseq_in_class``, the lowest quantiles within the label as given;
    ``loss``, the highest losses at the last checkpoint; ``random``. Intervals resample users.

    Returns:
        Columns of ``COLUMNS``.
    """
    generator = np.random.default_rng([seed, 1])
    size = len(setting.train)
    flipped = np.sort(generator.permutation(size)[: round(sizes.flipped * size)])
    samples = setting.relabelled(flipped)
    agent = setting.agent(samples, seed=seed, name=f"flipped_{seed}")
    found = setting.scores(samples, agent, setting.targets).assign(label=samples.label)
    known = found["score"].notna().to_numpy()
    is_flipped = np.isin(np.arange(size), flipped).astype(np.int64)
    detectors: dict[str, Floats] = {
        "tracseq": -found["score"].to_numpy(),
        "tracseq_in_class": -found.groupby("label")["score"].rank(pct=True).to_numpy(),
        "loss": found["loss"].to_numpy(),
        "random": generator.random(size),
    }
    result = clustered_bootstrap(
        is_flipped[known],
        {name: values[known] for name, values in detectors.items()},
        np.array(samples.user_id)[known],
        replicates=setting.recipe.evaluation.bootstrap,
        confidence=setting.recipe.evaluation.confidence,
        seed=seed,
    )
    rows = [(name, seed, item.value, item.low, item.high) for name, item in result.auc.items()]
    return pd.DataFrame(rows, columns=COLUMNS)
