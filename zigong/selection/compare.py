"""Compares a selection with the pool and a random half, in small tables to review before the selection is used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from zigong.quality.stability import stability_index

Mask = npt.NDArray[np.bool_]
LENGTH_BINS = 5


def selection_groups(pool: pd.DataFrame, shares: Mapping[str, str], *, seed: int) -> pd.DataFrame:
    """Describes the pool, the mix, its shares and a random half with the same columns.

    Args:
        pool: columns ``sample_id``, ``user_id``, ``observation_date``, ``task``, ``label``, ``score``, ``loss``,
            ``tokens``; the last three are missing for a sample that could not be scored.
        shares: sample_id to share, for the samples of the mix.
        seed: seed of the random half.

    Returns:
        One row per group: samples, users, largest_user_share, bad_rate, mean_score, mean_loss, mean_tokens, the part of
        the influence share that the group holds, and population stability indices (PSI) of label, date and length
        against the pool; above 0.25 a group is another population.
    """
    share = pool["sample_id"].map(shares)
    half = np.zeros(len(pool), dtype=bool)
    half[np.random.default_rng(seed).permutation(len(pool))[: len(pool) // 2]] = True
    top = (share == "influence").to_numpy()
    groups: dict[str, Mask] = {
        "pool": np.ones(len(pool), dtype=bool),
        "mix": share.notna().to_numpy(),
        "mix: influence": top,
        "mix: random": (share == "random").to_numpy(),
        "random half": half,
    }
    return pd.DataFrame([_described(name, pool, inside, top) for name, inside in groups.items() if inside.any()])


def _described(name: str, pool: pd.DataFrame, inside: Mask, top: Mask) -> dict[str, object]:
    part = pool[inside]
    return {
        "group": name,
        "samples": len(part),
        "users": part["user_id"].nunique(),
        "largest_user_share": part["user_id"].value_counts(normalize=True).iloc[0],
        "bad_rate": part["label"].mean(),
        "mean_score": part["score"].mean(),
        "mean_loss": part["loss"].mean(),
        "mean_tokens": part["tokens"].mean(),
        "holds_of_influence": (top & inside).sum() / max(1, top.sum()),
        "psi_label": psi(pool["label"], inside),
        "psi_date": psi(pool["observation_date"], inside),
        "psi_length": psi(length_bins(pool["tokens"]), inside),
    }


def psi(values: pd.Series, inside: Mask) -> float:
    """Population stability index of a categorical column, group against pool."""
    total = values.value_counts()
    part = values[inside].value_counts().reindex(total.index, fill_value=0)
    return stability_index(part.to_numpy(), total.to_numpy())


def length_bins(tokens: pd.Series) -> pd.Series:
    """Quintile of each sample by length, fewer if lengths repeat; -1 if the length is unknown."""
    return pd.qcut(tokens.rank(method="average"), LENGTH_BINS, duplicates="drop").cat.codes


def scores_by(pool: pd.DataFrame, shares: Mapping[str, str]) -> pd.DataFrame:
    """Score and share of the influence selection by task, label, observation date and length (quintiles).

    Args:
        pool: see :func:`selection_groups`.
        shares: see :func:`selection_groups`.

    Returns:
        Columns by, value, samples, mean_score, median_score, mean_tokens, chosen (share of the samples in the influence
        share). A trend over length within one label is a length bias.
    """
    placed = pool.assign(
        chosen=(pool["sample_id"].map(shares) == "influence").astype(float),
        length=length_bins(pool["tokens"]),
    )
    rows = []
    for by in ("task", "label", "observation_date", "length"):
        for value, part in placed.groupby(by):
            rows.append(
                {
                    "by": by,
                    "value": str(value),
                    "samples": len(part),
                    "mean_score": part["score"].mean(),
                    "median_score": part["score"].median(),
                    "mean_tokens": part["tokens"].mean(),
                    "chosen": part["chosen"].mean(),
                }
            )
    return pd.DataFrame(rows)
