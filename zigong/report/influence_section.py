"""The section of a report about influence: what the scores are worth, and what the selection by them changes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from zigong.report.run_report import CheckpointRow, InfluenceSection, SelectionGroup, Share
from zigong.runs.handover import Dataset, FinalModel, InfluenceScores, TrainingMix
from zigong.runs.job import Job

_CHECKPOINT = re.compile(r"period_(\d+)")
_AT_A_CHECKPOINT = re.compile(r" at period_(\d+)( \([^)]*\)|: \S+)")
_GROUPS = {
    "pool": "all training samples",
    "mix": "the mix",
    "mix: influence": "chosen by influence",
    "mix: random": "chosen at random",
    "random half": "a random half, for comparison",
}
_DECAYS = {"checkpoint": "age of the checkpoint", "sample": "age of the sample", "none": "no decay"}
_USED = {"all": "every checkpoint", "own": "own checkpoint"}
_LENGTHS = ("shortest fifth", "second fifth", "third fifth", "fourth fifth", "longest fifth")
_STEADY, _SHIFTED = 0.1, 0.25  # usual bounds of the stability index


def influence(job: Job, members: pd.DataFrame) -> InfluenceSection:
    """Scores, warnings and the tables of the run's folder, in words.

    Args:
        job: a job of the run, which has a training mix.
        members: members of its dataset with sample_id, split and label.
    """
    dataset, made, mix = job.run.take(Dataset), job.run.take(InfluenceScores), job.run.take(TrainingMix)
    chosen = (ds.field("dataset_id") == dataset.dataset_id) & (ds.field("scorer_id") == made.scorer_id)
    scores = job.arrow("influence_scores", ["sample_id", "score"], where=chosen).to_pandas()
    scored = members[members["split"] == "train"].merge(scores, on="sample_id", how="left").dropna(subset=["score"])
    tables, figures = job.run.small_tables(), job.run.metrics()
    settings = job.recipe.influence.model_dump(mode="json", exclude={"batch_tokens"})
    return InfluenceSection(
        labels=scored["label"].to_numpy(),
        scores=scored["score"].to_numpy(dtype=np.float64),
        warnings=merged(made.warnings) + unused_mix(mix, job.run.find(FinalModel)),
        checkpoints=_checkpoints(figures),
        agreements=tuple(_agreement(row) for row in tables.get("influence_agreement", [])),
        groups=tuple(_group(row) for row in tables.get("selection_groups", [])),
        other_settings=other_settings(tables.get("influence_settings", [])),
        selected=selected_shares(tables.get("selection_scores", [])),
        settings={**{name: str(value) for name, value in settings.items()}, "training mix": mix.mix_id},
    )


def merged(warnings: Sequence[str]) -> tuple[str, ...]:
    """Warnings that say the same of several checkpoints as one, which names the checkpoints."""
    found: dict[str, list[str]] = {}
    for warning in warnings:
        said = _AT_A_CHECKPOINT.search(warning)
        words = warning if said is None else _AT_A_CHECKPOINT.sub(" at CHECKPOINTS", warning)
        value = "" if said is None else said[2].strip(" ():")
        found.setdefault(words, []).append("" if said is None else f"{int(said[1]) + 1} ({value})")
    return tuple(
        _numbered(words.replace("at CHECKPOINTS", f"at checkpoint {', '.join(where)}"))
        for words, where in found.items()
    )


def unused_mix(mix: TrainingMix, final: FinalModel | None) -> tuple[str, ...]:
    """That random samples replaced the mix in the training of the final model, if they did."""
    if final is None or final.trained_on == mix.mix_id:
        return ()
    return (f"The final model was not trained on this mix. {final.mix_against_random}.",)


def other_settings(rows: Sequence[Mapping[str, str]]) -> tuple[Share, ...]:
    """How much of this run's selection each other setting would choose too."""
    first, *others = rows or [{}]
    return tuple(
        Share(
            name=f"{_DECAYS[row['decay']]}, {_USED[row['checkpoints']]}, gamma {float(row['gamma']):g}",
            value=float(row["top_overlap"]),
            note=f"of {int(row['scored']):,} scored samples",
        )
        for row in others
        if row["top_overlap"] and row != first
    )


def selected_shares(rows: Sequence[Mapping[str, str]]) -> tuple[Share, ...]:
    """The share of each kind of sample that influence chose; by class, date and length of the prompt."""
    return tuple(
        Share(
            name=_kind(row["by"], row["value"]),
            value=float(row["chosen"]),
            note=f"of {int(row['samples']):,}, mean score {float(row['mean_score']):.2g}",
        )
        for row in rows
        if row["by"] in {"label", "observation_date", "length"}
    )


def _kind(by: str, value: str) -> str:
    if by == "label":
        return "bad" if value == "1" else "good"
    if by == "length":
        return f"prompts: {_LENGTHS[int(value)]}" if int(value) < len(_LENGTHS) else f"prompts: part {value}"
    return value


def _numbered(words: str) -> str:
    """``period_00`` is the first checkpoint."""
    return _CHECKPOINT.sub(lambda found: f"checkpoint {int(found[1]) + 1}", words)


def _checkpoints(figures: Mapping[str, float]) -> tuple[CheckpointRow, ...]:
    numbers = sorted({int(found[1]) for name in figures if (found := re.match(r"influence\.period_(\d+)\.", name))})
    return tuple(
        CheckpointRow(
            number=number + 1,
            classes=figures.get(f"influence.period_{number:02d}.class_cosine"),
            halves=figures.get(f"influence.period_{number:02d}.half_cosine"),
        )
        for number in numbers
    )


def _agreement(row: Mapping[str, str]) -> tuple[str, str, float]:
    first, second = (
        "loss of the agent" if row[name] == "loss" else _numbered(row[name]) for name in ("first", "second")
    )
    return first, second, float(row["rank_correlation"])


def _group(row: Mapping[str, str]) -> SelectionGroup:
    return SelectionGroup(
        name=_GROUPS.get(row["group"], row["group"]),
        samples=int(row["samples"]),
        persons=int(row["users"]),
        bad_rate=float(row["bad_rate"]),
        mean_score=float(row["mean_score"]),
        mean_loss=float(row["mean_loss"]),
        mean_tokens=float(row["mean_tokens"]),
        differs_in=_differing(row),
    )


def _differing(row: Mapping[str, str]) -> str:
    """What distinguishes a group from all training samples, by the usual bounds of the stability index."""
    named = {"psi_label": "bad rate", "psi_date": "dates", "psi_length": "prompt length"}
    found = {name: float(row[column]) for column, name in named.items()}
    words = [f"{name} ({'much' if psi > _SHIFTED else 'somewhat'})" for name, psi in found.items() if psi > _STEADY]
    return ", ".join(words) or "nothing"
