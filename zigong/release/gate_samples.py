"""Input of the gate: labels and clusters of the held-out split, and the scores of every compared model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from zigong.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GateSamples:
    """Samples of one split.

    Attributes:
        labels: 1 = bad; shape [samples].
        clusters: split unit of each sample; shape [samples].
        scores: uncalibrated p_bad by role; shape [samples] each.
        missed: by role, whether the model generated none of the choices; shape [samples] each.
    """

    labels: NDArray[np.int64]
    clusters: NDArray[np.generic]
    scores: dict[str, Floats]
    missed: dict[str, NDArray[np.bool_]]


def gate_samples(
    answers: pa.Table, members: pa.Table, compared: Mapping[str, str], *, split: str, unit: str
) -> GateSamples:
    """The members of a split with the answers that evaluate_model published.

    Args:
        answers: columns sample_id, model_id, p_bad and miss of the dataset.
        members: rows of dataset_members.
        compared: model_id by role in the gate.
        split: split of the members.
        unit: column of the clusters.

    Raises:
        DataError: a model has no answer to one of the samples.
    """
    wide = answers.to_pandas().pivot(index="sample_id", columns="model_id", values=["p_bad", "miss"])
    known = members.select(["sample_id", "split", "label", unit]).to_pandas()
    wanted = known[known["split"] == split].set_index("sample_id")
    return GateSamples(
        labels=wanted["label"].to_numpy(),
        clusters=wanted[unit].to_numpy(),
        scores={role: _scores(wide["p_bad"], wanted, model, split) for role, model in compared.items()},
        missed={role: _missed(wide["miss"], wanted, model) for role, model in compared.items()},
    )


def _scores(wide: pd.DataFrame, wanted: pd.DataFrame, model: str, split: str) -> Floats:
    found = wide.reindex(index=wanted.index, columns=[model])[model].to_numpy(dtype=np.float64)
    missing = int(np.isnan(found).sum())
    if missing:
        raise DataError(
            f"evaluation_answers: {missing} of the {len(found)} samples of {split} have no answer of {model}",
            action="another champion was released since: start evaluate_model again with this run id, then this step",
        )
    return found


def _missed(wide: pd.DataFrame, wanted: pd.DataFrame, model: str) -> NDArray[np.bool_]:
    return wide.reindex(index=wanted.index)[model].to_numpy(dtype=bool)
