"""Tables of the study: KS and AUC of each rule, and its lead over chance, with intervals over persons and trainings."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd

from zigong.evaluation.bootstrap import interval_of, resample_weights
from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.evaluation.metrics import Ranked, rank_scores
from zigong.evaluation.selection_study.plan import Trial
from zigong.evaluation.selection_study.trials import Answered

Condition = tuple[float, str, float]
CONDITION = ("flipped", "budget", "share")
RANGES = ("auc", "ks", "lead")
COLUMNS = (
    *CONDITION,
    "rule",
    "split",
    "trainings",
    *(f"{name}{end}" for name in RANGES for end in ("", "_low", "_high")),
    "chosen",
)


def study_table(
    setting: StudySetting, answered: Answered, *, choose_on: str, resamples: int, seed: int
) -> pd.DataFrame:
    """One row per condition, rule and split.

    A figure is the mean over the single trainings of a rule, as a user who trains once would expect it. An interval
    resamples persons and, together, the trainings (seed and draw), which all rules share.

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
    for condition, rules in _by_condition(answered).items():
        found = []
        for split in dict.fromkeys(setting.splits):
            part = splits == split
            ranked = {
                rule: [rank_scores(labels[part], p_bad[part]) for p_bad in trainings]
                for rule, trainings in rules.items()
            }
            persons = np.array(setting.persons)[part]
            confidence = setting.recipe.evaluation.confidence
            figures = _figures(ranked, persons, resamples=resamples, seed=seed, confidence=confidence)
            found += [{"rule": rule, "split": split, **values} for rule, values in figures.items()]
        best = max((row for row in found if row["split"] == choose_on), key=lambda row: float(str(row["auc"])))
        named = dict(zip(CONDITION, condition, strict=True))
        rows += [{**named, **row, "chosen": row["rule"] == best["rule"]} for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def flat_figures(table: pd.DataFrame) -> dict[str, float]:
    """AUC, KS and lead of every row by name, such as ``selection.flipped_0.epochs.share_0.1.oot.auc.mix``."""
    found = {}
    for row in table.to_dict("records"):
        place = f"selection.flipped_{row['flipped']:g}.{row['budget']}.share_{row['share']:g}.{row['split']}"
        for name in RANGES:
            for end in ("", "_low", "_high"):
                found[f"{place}.{name}{end}.{row['rule']}"] = float(row[f"{name}{end}"])
    return found


def _by_condition(answered: Answered) -> dict[Condition, dict[str, list[Floats]]]:
    """Answers of each rule, in the order of seed and draw."""
    found: defaultdict[Condition, dict[str, list[Floats]]] = defaultdict(dict)
    for trial in sorted(answered, key=_repetition):
        condition = (trial.flipped, trial.budget, trial.share)
        found[condition].setdefault(trial.rule, []).append(answered[trial])
    return dict(sorted(found.items()))


def _repetition(trial: Trial) -> tuple[int, int]:
    return trial.seed, trial.draw


def _figures(
    rules: dict[str, list[Ranked]], persons: np.ndarray, *, resamples: int, seed: int, confidence: float
) -> dict[str, dict[str, float]]:
    trainings = max(map(len, rules.values()))
    generator = np.random.default_rng([seed, 5])
    samples = len(persons)
    drawn = [_measured(rules, np.ones(samples), np.arange(trainings))]
    for weights in resample_weights(persons, replicates=resamples, seed=seed):
        bad = next(iter(rules.values()))[0].bad
        if weights[bad].any() and weights[~bad].any():
            drawn.append(_measured(rules, weights, generator.integers(trainings, size=trainings)))
    values: dict[str, dict[str, float]] = {}
    for rule, ranked in rules.items():
        of_rule = {name: np.array([one[rule, name] for one in drawn]) for name in ("auc", "ks")}
        of_rule["lead"] = of_rule["auc"] - np.array([one["random", "auc"] for one in drawn])
        values[rule] = {"trainings": len(ranked)}
        for name in RANGES:
            item = interval_of(of_rule[name], confidence)
            values[rule] |= {name: item.value, f"{name}_low": item.low, f"{name}_high": item.high}
    return values


def _measured(rules: dict[str, list[Ranked]], weights: Floats, trainings: np.ndarray) -> dict[tuple[str, str], float]:
    """Mean AUC and KS of the named trainings of each rule."""
    found = {}
    for rule, ranked in rules.items():
        curves = {number: ranked[number].curve(weights) for number in set(trainings % len(ranked))}
        chosen = [curves[number] for number in trainings % len(ranked)]
        found[rule, "auc"] = float(np.mean([curve.auc for curve in chosen]))
        found[rule, "ks"] = float(np.mean([curve.ks for curve in chosen]))
    return found
