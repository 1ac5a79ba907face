"""The table of a study of settings: AUC and KS under each, and their lead over the first, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zigong.evaluation.calibration import averaged
from zigong.evaluation.compared_trainings import Floats, compared_trainings, with_ends
from zigong.evaluation.metrics import log_loss, rank_scores

COLUMNS = ("settings", "split", "trainings", *with_ends(), "log_loss", "chosen")


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The held-out samples that every training answers, in one order.

    Attributes:
        labels: 1 for bad; shape [samples].
        splits: split of each sample; shape [samples].
        persons: cluster of each sample; shape [samples].
    """

    labels: NDArray[np.integer]
    splits: NDArray[np.str_]
    persons: NDArray[np.str_]


def study_table(
    held_out: HeldOut,
    answered: Mapping[str, Sequence[Floats]],
    *,
    choose_on: str,
    resamples: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """One row per setting and split.

    Args:
        held_out: the held-out samples.
        answered: their p_bad under each setting, one array per seed; the others are compared with the first setting.
        choose_on: split on which the best single setting is ``chosen``, by AUC.
        resamples: number of resamples of persons and trainings.
        confidence: coverage of the intervals.
        seed: seed of the resamples.

    Returns:
        Columns of ``COLUMNS``; ``lead`` is AUC minus that of the first setting; ``log_loss`` that of the answers as
        they are.
    """
    answers = {name: list(p_bad) for name, p_bad in answered.items()}
    first = next(iter(answers))
    seeds, together = len(answers[first]), averaged_name(first)
    if seeds > 1:
        answers[together] = [averaged(answers[first])] * seeds
    rows: list[dict[str, object]] = []
    for split in dict.fromkeys(held_out.splits.tolist()):
        part = held_out.splits == split
        labels = held_out.labels[part]
        figures = compared_trainings(
            {name: [rank_scores(labels, p[part]) for p in p_bad] for name, p_bad in answers.items()},
            held_out.persons[part],
            [np.array([number]) for number in range(seeds)],
            reference=first,
            resamples=resamples,
            seed=seed,
            confidence=confidence,
        )
        for name, values in figures.items():
            loss = float(np.mean([log_loss(labels, p[part]) for p in answers[name]]))
            rows.append({"settings": name, "split": split, **values, "log_loss": loss})
    best = max(
        (row for row in rows if row["split"] == choose_on and row["settings"] != together),
        key=lambda row: float(str(row["auc"])),
    )["settings"]
    return pd.DataFrame([{**row, "chosen": row["settings"] == best} for row in rows], columns=list(COLUMNS))


def averaged_name(settings: str) -> str:
    """The name of the mean of all trainings of some settings, in log-odds."""
    return f"{settings}, seeds averaged"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table in few columns for a terminal; the chosen setting has an asterisk."""
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "settings": [f"{row['settings']}{' *' if row['chosen'] else ''}" for row in rows],
            "split": [row["split"] for row in rows],
            "AUC": [f"{row['auc']:.4f}" for row in rows],
            "lead over the first": [
                f"{row['lead']:+.4f} ({row['lead_low']:+.4f} to {row['lead_high']:+.4f})" for row in rows
            ],
            "log-loss": [f"{row['log_loss']:.4f}" for row in rows],
        }
    )


def flat_figures(table: pd.DataFrame, prefix: str) -> dict[str, float]:
    """AUC, KS, lead and log-loss of every row by name, such as ``training.oot.lead.finetune.epochs=1``."""
    return {
        f"{prefix}{row['split']}.{name}.{row['settings']}": float(row[name])
        for row in table.to_dict("records")
        for name in (*with_ends(), "log_loss")
    }
