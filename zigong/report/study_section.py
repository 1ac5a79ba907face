"""The section of a report about the selection study: how well a model trains on the samples that each rule chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zigong.evaluation.bootstrap import Interval

_RULES = {
    "random": "at random",
    "mix": "mix of highest scores and random",
    "high": "highest scores",
    "low": "lowest scores",
    "loss": "highest losses",
    "high_in_class": "highest scores of each class",
    "low_loss_in_class": "lowest losses of each class",
    "self_influence": "lowest self-influence of each class",
    "rds_plus": "most like the targets (RDS+)",
    "round_robin": "best for single targets in turn",
    "weights": "at random, weighted by score",
}


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A rule of selection in one condition of the selection study, on the final split.

    Attributes:
        rule: the rule in words.
        flipped: share of the labels that were flipped.
        budget: epochs or steps, which all rules have equally many of.
        share: size of the choice as a share of the training samples.
        lead: AUC minus that of random samples, paired.
        chosen: whether the rule has the largest AUC on ``select``.
    """

    rule: str
    flipped: float
    budget: str
    share: float
    auc: Interval
    lead: Interval
    chosen: bool


def selection_study(rows: Sequence[Mapping[str, str]], split: str) -> tuple[StudyRow, ...]:
    """The figures of each rule on the final split.

    Args:
        rows: the run's table ``study_selection``.
        split: name of the final split.
    """
    return tuple(
        StudyRow(
            rule=_RULES.get(row["rule"], row["rule"]),
            flipped=float(row["flipped"]),
            budget=row["budget"],
            share=float(row["share"]),
            auc=_interval(row, "auc"),
            lead=_interval(row, "lead"),
            chosen=row["chosen"] == "True",
        )
        for row in rows
        if row["split"] == split
    )


def _interval(row: Mapping[str, str], name: str) -> Interval:
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Interval(value=value, low=low, high=high)
