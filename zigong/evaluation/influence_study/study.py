"""Runs all parts of the study."""

from __future__ import annotations

import pandas as pd

from zigong.console import Advance
from zigong.evaluation.influence_study.datamodel import datamodeling_score
from zigong.evaluation.influence_study.mislabels import mislabel_detection
from zigong.evaluation.influence_study.retraining import ARMS, retrained_arms
from zigong.evaluation.influence_study.setting import Sizes, StudySetting

Tables = dict[str, pd.DataFrame]


def influence_study(setting: StudySetting, sizes: Sizes, *, seed: int, advance: Advance) -> Tables:
    """Tables ``study_mislabels`` (a row per seed, and their means), ``study_datamodel`` and ``study_retraining``."""
    total = sizes.seeds + sizes.subsets + sizes.seeds * len(ARMS)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(done, total)

    found = []
    for number in range(sizes.seeds):
        found.append(mislabel_detection(setting, sizes, seed=seed + number))
        step()
    mislabels = pd.concat(found, ignore_index=True)
    return {
        "study_mislabels": pd.concat([mislabels, _means(mislabels)], ignore_index=True),
        "study_datamodel": datamodeling_score(setting, sizes, seed=seed, advance=step),
        "study_retraining": retrained_arms(setting, sizes, seed=seed, advance=step),
    }


def _means(mislabels: pd.DataFrame) -> pd.DataFrame:
    """Mean AUC over the seeds, with the lowest and the highest end of their intervals."""
    grouped = mislabels.groupby("detector", sort=False)
    ends = grouped.agg(auc=("auc", "mean"), low=("low", "min"), high=("high", "max")).reset_index()
    return ends.assign(seed="mean")


def flat_figures(tables: Tables) -> dict[str, float]:
    """The main figures of the tables by name."""
    mislabels, datamodel, retraining = (tables[f"study_{name}"] for name in ("mislabels", "datamodel", "retraining"))
    means = mislabels[mislabels["seed"] == "mean"]
    return {
        **{f"study.mislabel_auc.{row['detector']}": float(row["auc"]) for row in means.to_dict("records")},
        **{
            f"study.lds.{row['targets']}.{row['predictor']}": float(row["correlation"])
            for row in datamodel.to_dict("records")
        },
        **{f"study.retrained_auc.{row['arm']}": float(row["auc"]) for row in retraining.to_dict("records")},
    }
