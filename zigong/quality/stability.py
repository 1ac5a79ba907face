"""The population stability index, used for selections and for drift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def stability_index(counts: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Population stability index: sum over bins of (p - q) ln(p / q).

    Half a row is added to each count, so that an empty bin is finite.

    Args:
        counts: number of rows in each bin, not all 0.
        reference: the same counts for the reference population.

    Source: Siddiqi, Credit Risk Scorecards (2006), ch. 10.
    """
    p, q = (_shares(np.asarray(side, dtype=np.float64)) for side in (counts, reference))
    return float(np.sum((p - q) * np.log(p / q)))


def _shares(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    smoothed = counts + 0.5
    return np.asarray(smoothed / smoothed.sum())
