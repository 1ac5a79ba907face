"""Tables of the study: KS and AUC of each rule, and its lead over chance, with intervals over persons and trainings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from zigong.evaluation.compared_trainings import compared_trainings, with_ends
from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.metrics import rank_scores
from zigong.evaluation.selection_study.plan import Trial
from zigong.evaluation.selection_study.trials import Answered
from zigong.tokens.samples import Indices

Condition = tuple[float, str, float]
CONDITION = ("flipped", "budget", "share")
COLUMNS = (
    *CONDITION,
    "rule",
    "split",
    "trainings",
    *with_ends(),
    "chosen",
)


def study_table(
    setting: StudySetting, answered: Answered, *, choose_on: str, resamples: int, seed: int
) -> pd.DataFrame:
    """One row per condition, rule and split.

    A figure is the mean over the single trainings of a rule, as a user who trains once would expect it; see
    ``compared_trainings`` for its interval.

    Args:
        setting: the held-out samples.
        answered: answers of the trials.
        choose_on: split on which the best rule of each condition is ``chosen``, by AUC.
        resamples: number of resamples.
        seed: seed of the resamples.

    Returns:
        Columns of ``COLUMNS``; ``lead`` is AUC minus that of ``random``.
    """
    splits, labels = np.array(setting.splits), setting.held_out.label
    rows: list[dict[str, object]] = []
    for condition, trials in _by_condition(answered).items():
        rules = _by_rule(trials)
        numbers = _repetitions(trials)
        found = []
        for split in dict.fromkeys(setting.splits):
            part = splits == split
            ranked = {
                rule: [rank_scores(labels[part], p_bad[part]) for p_bad in trainings]
                for rule, trainings in rules.items()
            }
            persons = np.array(setting.persons)[part]
            confidence = setting.recipe.evaluation.confidence
            figures = compared_trainings(
                ranked,
                persons,
                numbers,
                reference="random",
                resamples=resamples,
                seed=seed,
                confidence=confidence,
            )
            found += [{"rule": rule, "split": split, **values} for rule, values in figures.items()]
        best = max((row for row in found if row["split"] == choose_on), key=lambda row: float(str(row["auc"])))
        named = dict(zip(CONDITION, condition, strict=True))
        rows += [{**named, **row, "chosen": row["rule"] == best["rule"]} for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table in few columns for a terminal; the chosen rule of a condition has an asterisk."""
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "wrong": [f"{row['flipped']:.0%}" for row in rows],
            "size": [f"{row['share']:.0%}, {row['budget']}" for row in rows],
            "rule": [f"{row['rule']}{' *' if row['chosen'] else ''}" for row in rows],
            "split": [row["split"] for row in rows],
            "AUC": [f"{row['auc']:.3f}" for row in rows],
            "lead over random": [
                f"{row['lead']:+.3f} ({row['lead_low']:+.3f} to {row['lead_high']:+.3f})" for row in rows
            ],
        }
    )


def flat_figures(table: pd.DataFrame) -> dict[str, float]:
    """AUC, KS and lead of every row by name, such as ``selection.flipped_0.epochs.share_0.1.oot.auc.mix``."""
    found = {}
    for row in table.to_dict("records"):
        place = f"selection.flipped_{row['flipped']:g}.{row['budget']}.share_{row['share']:g}.{row['split']}"
        for name in with_ends():
            found[f"{place}.{name}.{row['rule']}"] = float(row[name])
    return found


def _by_condition(answered: Answered) -> dict[Condition, dict[Trial, Floats]]:
    """The trials of each condition, in the order of seed and draw."""
    found: defaultdict[Condition, dict[Trial, Floats]] = defaultdict(dict)
    for trial in sorted(answered, key=lambda trial: (trial.seed, trial.draw)):
        found[trial.flipped, trial.budget, trial.share][trial] = answered[trial]
    return dict(sorted(found.items()))


def _by_rule(trials: Mapping[Trial, Floats]) -> dict[str, list[Floats]]:
    found: defaultdict[str, list[Floats]] = defaultdict(list)
    for trial, p_bad in trials.items():
        found[trial.rule].append(p_bad)
    return dict(found)


def _repetitions(trials: Iterable[Trial]) -> list[Indices]:
    """The numbers of the trainings of each seed, as counted within one rule."""
    seeds = [trial.seed for trial in trials if trial.rule == "random"]
    return [np.flatnonzero(np.array(seeds) == seed) for seed in dict.fromkeys(seeds)]
