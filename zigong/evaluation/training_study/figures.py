"""The table of the study: AUC and KS under each setting, and their lead over the recipe's, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from zigong.evaluation.calibration import averaged
from zigong.evaluation.compared_trainings import compared_trainings, with_ends
from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.metrics import log_loss, rank_scores
from zigong.evaluation.training_study.trials import RECIPE

AVERAGED = "recipe, seeds averaged"  # p_bad of the recipe's trainings, averaged in log-odds

COLUMNS = ("settings", "split", "trainings", *with_ends(), "log_loss", "chosen")


def study_table(
    setting: StudySetting, answered: Mapping[str, Sequence[Floats]], *, choose_on: str, resamples: int, seed: int
) -> pd.DataFrame:
    """One row per setting and split.

    Args:
        setting: the held-out samples.
        answered: their p_bad under each setting, ``RECIPE`` among them, one array per seed.
        choose_on: split on which the best single setting is ``chosen``, by AUC.
        resamples: number of resamples of persons and trainings.
        seed: seed of the resamples.

    Returns:
        Columns of ``COLUMNS``; ``lead`` is AUC minus that of the recipe; ``log_loss`` that of answers not calibrated.
    """
    answers = {name: list(p_bad) for name, p_bad in answered.items()}
    seeds = len(answers[RECIPE])
    if seeds > 1:
        answers[AVERAGED] = [averaged(answers[RECIPE])] * seeds
    splits, labels = np.array(setting.splits), setting.held_out.label
    rows: list[dict[str, object]] = []
    for split in dict.fromkeys(setting.splits):
        part = splits == split
        figures = compared_trainings(
            {name: [rank_scores(labels[part], p[part]) for p in p_bad] for name, p_bad in answers.items()},
            np.array(setting.persons)[part],
            [np.array([number]) for number in range(seeds)],
            reference=RECIPE,
            resamples=resamples,
            seed=seed,
            confidence=setting.recipe.evaluation.confidence,
        )
        for name, values in figures.items():
            loss = float(np.mean([log_loss(labels[part], p[part]) for p in answers[name]]))
            rows.append({"settings": name, "split": split, **values, "log_loss": loss})
    best = max(
        (row for row in rows if row["split"] == choose_on and row["settings"] != AVERAGED),
        key=lambda row: float(str(row["auc"])),
    )["settings"]
    return pd.DataFrame([{**row, "chosen": row["settings"] == best} for row in rows], columns=list(COLUMNS))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table in few columns for a terminal; the chosen setting has an asterisk."""
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "settings": [f"{row['settings']}{' *' if row['chosen'] else ''}" for row in rows],
            "split": [row["split"] for row in rows],
            "AUC": [f"{row['auc']:.4f}" for row in rows],
            "lead over the recipe": [
                f"{row['lead']:+.4f} ({row['lead_low']:+.4f} to {row['lead_high']:+.4f})" for row in rows
            ],
            "log-loss": [f"{row['log_loss']:.4f}" for row in rows],
        }
    )


def flat_figures(table: pd.DataFrame) -> dict[str, float]:
    """AUC, KS, lead and log-loss of every row by name, such as ``training.oot.lead.finetune.epochs=1``."""
    return {
        f"training.{row['split']}.{name}.{row['settings']}": float(row[name])
        for row in table.to_dict("records")
        for name in (*with_ends(), "log_loss")
    }
