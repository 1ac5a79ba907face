"""Further horizons of a run's card on the held-out splits: labels, calibrations and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from zigong.dataset.members import window_closes_before
from zigong.evaluation.calibration import Calibration, Floats, calibrated
from zigong.evaluation.groups import FEWEST
from zigong.evaluation.held_out import Figure, Published, part_figures
from zigong.evaluation.horizons import AskedHorizon, calibrated_horizons, horizon_matrix, monotone
from zigong.evaluation.metrics import best_mcc_threshold
from zigong.recipe import Horizon, Recipe
from zigong.recipe.population import label_settings_of
from zigong.runs.job import Job

SELECT = "select"
SLICE = "horizon="
LABELLED = "labelled"  # share of the samples with a label that may be used
CORRECTED = "corrected"  # share of the answers that contradicted those about other horizons
_EXPORTED = ("auc", "brier", "log_loss", LABELLED, CORRECTED)
_POINT = ["user_id", "loan_id", "observation_date"]
_READ = [*_POINT, "window_months", "dpd_threshold", "outcome"]


@dataclass(frozen=True, kw_only=True)
class HeldOutHorizon:
    """One further horizon of held-out members.

    Attributes:
        horizon: the horizon.
        splits: split of each member; shape [members].
        labels: 1 = bad, NaN where no label may be used; shape [members].
        p_bad: answers of the language model, NaN where it has none; shape [members].
    """

    horizon: Horizon
    splits: NDArray[np.str_]
    labels: Floats
    p_bad: Floats

    def measured(self, split: str) -> NDArray[np.bool_]:
        """The members of a split with label and answer; shape [members]."""
        measured: NDArray[np.bool_] = (self.splits == split) & ~np.isnan(self.labels) & ~np.isnan(self.p_bad)
        return measured

    def labels_of(self, split: str) -> NDArray[np.int64]:
        """The labels of the measured members of a split."""
        return self.labels[self.measured(split)].astype(np.int64)

    def calibrated_on_select(self, p_main: Floats) -> AskedHorizon | None:
        """Its calibration; None if ``select`` lacks a class.

        Args:
            p_main: calibrated probabilities of the card for the first horizon; shape [members].
        """
        labels, chosen = self.labels_of(SELECT), self.measured(SELECT)
        if not 0 < labels.sum() < len(labels):
            return None
        return AskedHorizon.fitted(self.horizon, self.p_bad[chosen], p_main[chosen], labels)


def held_out_horizons(members: pa.Table, answers: pa.Table, labels: pa.Table, recipe: Recipe) -> list[HeldOutHorizon]:
    """The further horizons of a recipe with their labels and answers; empty for a recipe with one horizon.

    Args:
        members: held-out members.
        answers: the column ``horizons`` of the same samples, in the order of the members.
        labels: see :func:`further_labels`.
        recipe: the recipe of the run.
    """
    horizons, splits = recipe.labels.further, np.asarray(members["split"])
    known, p_bad = further_labels(members, labels, recipe), horizon_matrix(answers["horizons"], horizons)
    return [
        HeldOutHorizon(horizon=horizon, splits=splits, labels=known[:, place], p_bad=p_bad[:, place])
        for place, horizon in enumerate(horizons)
    ]


def published_labels(job: Job, members: pa.Table) -> pa.Table:
    """The good and bad labels of all horizons at the points of members."""
    wanted = (
        (ds.field("population") == job.population)
        & (ds.field("label_settings") == label_settings_of(job.recipe))
        & ds.field("observation_date").isin(members["observation_date"].unique())
        & ds.field("outcome").isin(["good", "bad"])
    )
    return job.arrow("performance_labels", _READ, where=wanted)


def further_labels(members: pa.Table, labels: pa.Table, recipe: Recipe) -> Floats:
    """Labels of the further horizons, NaN where none may be used; shape [members, H].

    As for the first horizon, a label is used if it is mature at ``as_of`` and, before OOT, when the next split begins.

    Args:
        members: split, user_id, loan_id and observation_date.
        labels: rows of performance_labels of these points with the outcome good or bad.
        recipe: the recipe of the run.
    """
    points = pd.MultiIndex.from_frame(members.select(_POINT).to_pandas())
    placed = list(zip(members["split"].to_pylist(), members["observation_date"].to_pylist(), strict=True))
    closes, known = window_closes_before(recipe), labels.to_pandas()
    found = np.full((len(members), len(recipe.labels.further)), np.nan)
    for place, horizon in enumerate(recipe.labels.further):
        same = (known["window_months"] == horizon.window_months) & (known["dpd_threshold"] == horizon.dpd_threshold)
        own = known[same]
        bad = pd.Series((own["outcome"] == "bad").to_numpy(float), index=pd.MultiIndex.from_frame(own[_POINT]))
        usable = {pair: _usable(recipe, horizon, pair[1], closes.get(pair[0])) for pair in set(placed)}
        found[:, place] = np.where([usable[pair] for pair in placed], bad.reindex(points).to_numpy(), np.nan)
    return found


def _usable(recipe: Recipe, horizon: Horizon, day: date, next_split: date | None) -> bool:
    limit = recipe.as_of if next_split is None else min(recipe.as_of, next_split)
    return recipe.labels.matures(day, horizon) <= limit


def asked_horizons(held: Sequence[HeldOutHorizon], p_main: Floats) -> list[AskedHorizon]:
    """The horizons that a card answers, each with its calibration; without those that ``select`` cannot calibrate.

    Args:
        held: the further horizons of held-out members.
        p_main: calibrated probabilities of the card for the first horizon; shape [members].
    """
    found = [one.calibrated_on_select(p_main) for one in held]
    return [asked for asked in found if asked is not None]


def released_horizons(
    job: Job, members: pa.Table, answers: pa.Table, model_id: str, calibration: Calibration
) -> list[AskedHorizon]:
    """The further horizons of the card that a run releases.

    Args:
        job: a job that reads performance_labels.
        members: held-out members, with those of ``select``.
        answers: rows of evaluation_answers of their dataset.
        model_id: the card.
        calibration: of its answers about the first horizon.
    """
    if not job.recipe.labels.further:
        return []
    select = members.filter(pc.equal(members["split"], SELECT))
    own = answers.filter(pc.equal(answers["model_id"], model_id))
    own = own.take(pc.index_in(select["sample_id"], own["sample_id"]))
    held = held_out_horizons(select, own, published_labels(job, select), job.recipe)
    return asked_horizons(held, calibrated(calibration, own["p_bad"].to_numpy()))


def evaluated_horizons(
    job: Job, members: pa.Table, answers: pa.Table, p_main: Floats, *, splits: Sequence[str]
) -> list[Figure]:
    """The figures of the further horizons of a run's card, which are also added to the metrics of the run.

    A horizon for which ``select`` lacks a class cannot be calibrated: it is named in a warning and not answered.

    Args:
        job: the job that evaluates the card.
        members: held-out members.
        answers: the card's answers, in the order of the members.
        p_main: its calibrated probabilities; shape [members].
        splits: splits to measure.
    """
    recipe = job.recipe
    if not recipe.labels.further:
        return []
    held = held_out_horizons(members, answers, published_labels(job, members), recipe)
    answered = {asked.horizon for asked in asked_horizons(held, p_main)}
    for one in held:
        if one.horizon not in answered:
            job.warn(f"labels.horizons: {one.horizon.name} is not answered: select has no usable label of a class")
    model_id = answers["model_id"][0].as_py()
    figures = horizon_figures(held, p_main, members, model_id=model_id, splits=splits, recipe=recipe)
    job.run.add_metrics(
        {
            f"evaluation.{item.slice.removeprefix(SLICE)}.{item.split}.{item.metric}": item.value
            for item in figures
            if item.metric in _EXPORTED
        }
    )
    return figures


def horizon_figures(
    held: Sequence[HeldOutHorizon],
    p_main: Floats,
    members: pa.Table,
    *,
    model_id: str,
    splits: Sequence[str],
    recipe: Recipe,
) -> list[Figure]:
    """The figures of every answered horizon, as the slice ``horizon=NAME``, of the probabilities to publish.

    Args:
        held: the further horizons of the members.
        p_main: calibrated probabilities of the card; shape [members].
        members: held-out members, with the split unit.
        model_id: the card.
        splits: splits to measure.
        recipe: first horizon, number of resamples, confidence and seed.
    """
    asked = asked_horizons(held, p_main)
    answered = [one for one in held if one.horizon in {item.horizon for item in asked}]
    if not answered:
        return []
    own = calibrated_horizons(asked, np.column_stack([one.p_bad for one in answered]), p_main)
    order = [recipe.labels.horizons[0], *(one.horizon for one in answered)]
    agreed = monotone(order, np.column_stack([p_main, own]))[:, 1:]
    clusters = np.asarray(members[recipe.split.unit])
    return [
        figure
        for place, one in enumerate(answered)
        for split in splits
        if (one.splits == split).any()
        for figure in _figures(one, own[:, place], agreed[:, place], clusters, model_id, split, recipe)
    ]


def horizon_lines(figures: Sequence[Figure], model_id: str, split: str) -> dict[str, str]:
    """What was measured of each further horizon of a card on one split, as text for report and model card.

    Args:
        figures: figures of slices.
        model_id: the card.
        split: the split.
    """
    own = {(item.slice, item.metric): item for item in figures if (item.model_id, item.split) == (model_id, split)}
    lines = {}
    for name in (name for name, metric in own if metric == LABELLED):
        auc, brier, corrected = (own.get((name, metric)) for metric in ("auc", "brier", CORRECTED))
        found = "not measured: too few mature labels"
        if auc is not None and brier is not None:
            found = f"AUC {auc.value:.3f}, Brier {brier.value:.4f} on {auc.samples:,} samples"
        changed = "" if corrected is None else f"; {corrected.value:.1%} of the answers corrected"
        lines[f"further horizon {name.removeprefix(SLICE)}"] = f"{found}{changed}"
    return lines


def _figures(
    held: HeldOutHorizon,
    own: Floats,
    agreed: Floats,
    clusters: NDArray[np.generic],
    model_id: str,
    split: str,
    recipe: Recipe,
) -> list[Figure]:
    """The figures of one horizon on one split; see :func:`horizon_figures`."""
    here, chosen, name = held.splits == split, held.measured(split), f"{SLICE}{held.horizon.name}"
    answered = here & ~np.isnan(own)
    shares = {LABELLED: chosen[here]} | ({CORRECTED: (own != agreed)[answered]} if answered.any() else {})
    figures = [
        Figure(
            model_id=model_id,
            split=split,
            metric=metric,
            value=float(values.mean()),
            low=None,
            high=None,
            samples=len(values),
            slice=name,
        )
        for metric, values in shares.items()
    ]
    labels, p_bad, select = held.labels_of(split), agreed[chosen], agreed[held.measured(SELECT)]
    if len(labels) < FEWEST or not 0 < labels.sum() < len(labels):
        return figures
    cut = best_mcc_threshold(held.labels_of(SELECT), select)
    return figures + part_figures(
        labels,
        Published(scores={model_id: p_bad}, thresholds={model_id: cut}, missed={}),
        clusters[chosen],
        split=split,
        final=model_id,
        settings=recipe.evaluation,
        seed=recipe.seed,
        slice_name=name,
    )
