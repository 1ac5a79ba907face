"""Small tables to review scores: other settings, a sweep of gamma, and agreement between checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from zigong.influence.diagnostics import CheckpointDiagnostics, target_diagnostics
from zigong.influence.recombine import recombinable, recombined
from zigong.influence.targets import TargetGradients
from zigong.recipe import Influence
from zigong.training.checkpoints import CheckpointManifest

Floats = npt.NDArray[np.float64]
Strata = npt.NDArray[np.str_]  # task and label of each sample
DECAYS = ("checkpoint", "sample", "none")
GAMMAS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


def comparison_tables(
    scored: pd.DataFrame,
    settings: Influence,
    *,
    targets: TargetGradients,
    manifest: CheckpointManifest,
    top_share: float,
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """The tables of this module by name, and their warnings.

    Args:
        scored: columns ``parts``, ``loss``, ``stratum``, ``observation_date`` of the samples that have a score; ranks
            are compared within a stratum (task and label).
        settings: recipe section ``influence``.
        targets: targets of the scores.
        manifest: manifest of the agent.
        top_share: share of each stratum that counts as its top.
    """
    if scored.empty:
        return {}, ("no sample has a score",)
    names = [item.name for item in manifest.checkpoints]
    agreement = checkpoint_agreement(scored, names)
    sides = settings_side_by_side(scored, settings, target_dates=targets.dates, manifest=manifest, top_share=top_share)
    warnings = sign_warnings(agreement, target_diagnostics(targets, manifest))
    return {"influence_settings": sides, "influence_agreement": agreement}, warnings


def with_strata(scores: pa.Table, members: pa.Table) -> pd.DataFrame:
    """The scores that are not null, with the columns that :func:`comparison_tables` needs.

    Args:
        scores: columns of influence_scores.
        members: columns sample_id, task, label and observation_date.
    """
    known = members.select(["sample_id", "task", "label", "observation_date"]).to_pandas()
    known["stratum"] = known["task"] + "/" + known["label"].astype(str)
    scored: pd.DataFrame = scores.to_pandas().dropna(subset=["score"]).merge(known, on="sample_id")
    return scored


def settings_side_by_side(
    scored: pd.DataFrame,
    settings: Influence,
    *,
    target_dates: Sequence[date],
    manifest: CheckpointManifest,
    top_share: float,
) -> pd.DataFrame:
    """Compares every decay with both checkpoint settings, and a sweep of gamma, with the given scores.

    Args:
        scored: columns ``parts``, ``stratum``, ``observation_date`` of the samples that have a score.
        settings: settings of these scores.
        target_dates: observation dates of the targets.
        manifest: manifest of the agent.
        top_share: share of each stratum that counts as its top.

    Returns:
        One row per setting whose scores follow from the stored parts (:mod:`zigong.influence.recombine`): decay,
        checkpoints, gamma, scored, rank_correlation with the given scores and top_overlap, both within stratum.
    """
    decays: list[dict[str, object]] = [
        {"decay": decay, "checkpoints": used} for decay, used in product(DECAYS, ("all", "own"))
    ]
    sweep: list[dict[str, object]] = [{"gamma": gamma} for gamma in GAMMAS if settings.decay != "none"]
    wanted = [settings.model_copy(update=change) for change in (*decays, *sweep)]
    parts, dates = np.stack(scored["parts"].to_list()), list(scored["observation_date"])
    reference, strata = parts.sum(1), scored["stratum"].to_numpy(dtype=str)
    rows = []
    for one in dict.fromkeys(wanted):
        if not recombinable(settings, one, target_dates):
            continue
        found = recombined(parts, dates, made=settings, wanted=one, target_dates=target_dates, manifest=manifest).sum(1)
        known = np.isfinite(found)
        rows.append(
            {
                "decay": one.decay,
                "checkpoints": one.checkpoints,
                "gamma": one.gamma,
                "scored": int(known.sum()),
                "rank_correlation": rank_correlation(found[known], reference[known], strata[known]),
                "top_overlap": top_overlap(found[known], reference[known], strata[known], top_share),
            }
        )
    return pd.DataFrame(rows)


def checkpoint_agreement(scored: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Rank correlation of parts within stratum, for each pair of checkpoints and each checkpoint with the loss.

    Args:
        scored: columns ``parts``, ``loss`` and ``stratum`` of the samples that have a score.
        names: names of the checkpoints.

    Returns:
        Columns first, second ("loss" too) and rank_correlation; below 0 the two rank against each other.
    """
    parts, strata = np.stack(scored["parts"].to_list()), scored["stratum"].to_numpy(dtype=str)
    columns = {name: parts[:, number] for number, name in enumerate(names)}
    columns["loss"] = scored["loss"].to_numpy()
    rows = []
    for first, second in combinations(columns, 2):
        both = (columns[first] != 0) & (columns[second] != 0)  # 0: the checkpoint did not participate
        found = rank_correlation(columns[first][both], columns[second][both], strata[both])
        rows.append({"first": first, "second": second, "rank_correlation": found})
    return pd.DataFrame(rows)


def rank_correlation(first: Floats, second: Floats, strata: Strata) -> float:
    """Spearman's correlation within each stratum, averaged by stratum size; NaN if it is undefined in all of them."""
    found, sizes = [], []
    for stratum in np.unique(strata):
        frame = pd.DataFrame({"first": first[strata == stratum], "second": second[strata == stratum]}).rank()
        if len(frame) > 2 and frame["first"].nunique() > 1 and frame["second"].nunique() > 1:
            found.append(float(np.corrcoef(frame["first"], frame["second"])[0, 1]))
            sizes.append(len(frame))
    return float(np.average(found, weights=sizes)) if found else float("nan")


def top_overlap(first: Floats, second: Floats, strata: Strata, share: float) -> float:
    """Share of each stratum's top by ``first`` that is also in its top by ``second``; by chance it is ``share``."""
    both = total = 0
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        size = round(share * len(members))
        tops = [set(members[np.argsort(-scores[members], kind="stable")[:size]]) for scores in (first, second)]
        both, total = both + len(tops[0] & tops[1]), total + size
    return both / total if total else float("nan")


def sign_warnings(agreement: pd.DataFrame, diagnostics: Sequence[CheckpointDiagnostics]) -> tuple[str, ...]:
    """Warnings against using the scores; empty if there are none."""
    warnings = []
    for row in agreement.to_dict("records"):
        if row["rank_correlation"] < 0 and row["second"] != "loss":
            warnings.append(f"signs flip between {row['first']} and {row['second']}: {row['rank_correlation']:+.2f}")
    for item in diagnostics:
        if item.half_cosine is not None and item.half_cosine < 0:
            warnings.append(f"halves of the target disagree at {item.checkpoint}: {item.half_cosine:+.2f}")
        if item.class_cosine is not None and item.class_cosine < -0.5:
            warnings.append(
                f"the class means oppose each other at {item.checkpoint} ({item.class_cosine:+.2f}): the population "
                "mean is their imbalance, rank within each class"
            )
    return tuple(warnings)
