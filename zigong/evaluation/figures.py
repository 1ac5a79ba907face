"""Every figure of an evaluation: splits, slices, deciles, fairness and shift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from zigong.dataset.members import final_split
from zigong.evaluation.baselines import Baselines
from zigong.evaluation.held_out import Figure, Published, held_out_figures
from zigong.evaluation.shift import feature_figures, score_figures
from zigong.evaluation.slice_figures import (
    SplitSamples,
    compared_models,
    decile_figures,
    fairness_figures,
    sliced_figures,
)
from zigong.evaluation.slices import attribute_groups, attribute_of, slices_of
from zigong.recipe import Recipe


def evaluation_figures(
    members: pa.Table,
    published: Published,
    baselines: Baselines,
    *,
    final: str,
    splits: Sequence[str],
    recipe: Recipe,
) -> list[Figure]:
    """The figures of complete splits, and those of parts of the final split.

    Parts are measured for the evaluated model and for the other model with the largest AUC on ``select``.

    Args:
        members: held-out members, in the order of the scores.
        published: every compared model.
        baselines: the baselines with the features of the members.
        final: the evaluated model.
        splits: splits to measure.
        recipe: the recipe of the run.

    Raises:
        ConfigError: ``evaluation.segments`` or ``evaluation.fairness`` name what the data does not have.
    """
    split, labels = np.asarray(members["split"]), np.asarray(members["label"])
    figures = held_out_figures(
        members,
        published,
        final=final,
        splits=splits,
        unit=recipe.split.unit,
        settings=recipe.evaluation,
        seed=recipe.seed,
    )
    figures += score_figures(split, published.scores, splits)
    select, chosen = split == "select", split == final_split(recipe)
    models = compared_models(labels[select], {name: p[select] for name, p in published.scores.items()}, final)
    samples = SplitSamples(
        split=final_split(recipe),
        labels=labels[chosen],
        clusters=np.asarray(members[recipe.split.unit])[chosen],
        published=published.where(chosen, models),
    )
    return figures + _parts(samples, members.filter(pa.array(chosen)), baselines, chosen, final, recipe)


def _parts(
    samples: SplitSamples,
    members: pa.Table,
    baselines: Baselines,
    chosen: np.ndarray,
    final: str,
    recipe: Recipe,
) -> list[Figure]:
    settings, unit, seed = recipe.evaluation, recipe.split.unit, recipe.seed
    features, known = baselines.features[chosen], np.asarray(baselines.train[unit])
    slices = slices_of(members, features, known, unit=unit, segments=settings.segments)
    groups = {
        name: attribute_groups(attribute_of(features, name, key="evaluation.fairness")) for name in settings.fairness
    }
    fair = fairness_figures(samples, groups, settings.fairness, final=final, settings=settings, seed=seed)
    counted = {(figure.slice, figure.metric) for figure in fair}
    sliced = sliced_figures(samples, slices, final=final, settings=settings, seed=seed)
    return [
        *(figure for figure in sliced if figure.model_id != final or (figure.slice, figure.metric) not in counted),
        *fair,
        *decile_figures(samples, settings=settings, seed=seed),
        *feature_figures(baselines.train_features, features, model_id=final, split=samples.split),
    ]
