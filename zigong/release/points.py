"""Quality of the points that are released: rounding and clipping make ties that probabilities do not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.held_out import Figure
from zigong.evaluation.measured import ModelFigures
from zigong.evaluation.metrics import score_curve
from zigong.recipe import Card
from zigong.release.scaling import HIGHEST, LOWEST, card_scores

Floats = NDArray[np.float64]

LARGE_SHARE = 0.05  # of the clients: more of them with the same points cannot be ranked
LARGE_LOSS = 0.01  # of KS or AUC against the probabilities
METRICS = ("points_auc", "points_ks", "points_at_lowest", "points_at_highest", "points_largest_tie")


@dataclass(frozen=True, kw_only=True)
class PointsQuality:
    """How well points rank one split, next to the probabilities they were made from.

    Attributes:
        auc: of the points.
        ks: of the points.
        p_auc: of p_bad.
        p_ks: of p_bad.
        at_lowest: share of samples with the fewest possible points.
        at_highest: share of samples with the most possible points.
        largest_tie: largest share of samples with the same points.
    """

    auc: float
    ks: float
    p_auc: float
    p_ks: float
    at_lowest: float
    at_highest: float
    largest_tie: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the points worse than the probabilities, one sentence each."""
        ends = ((LOWEST, self.at_lowest), (HIGHEST, self.at_highest))
        found = [
            f"{share:.1%} of the samples have {end} points, an end of the scale: lower card.pdo or move card.base_score"
            for end, share in ends
            if share >= LARGE_SHARE
        ]
        if self.largest_tie >= LARGE_SHARE and self.largest_tie not in {self.at_lowest, self.at_highest}:
            found.append(f"{self.largest_tie:.1%} of the samples have the same points: raise card.pdo")
        lost = max(self.p_auc - self.auc, self.p_ks - self.ks)
        if lost > LARGE_LOSS:
            found.append(
                f"the points rank worse than p_bad: AUC {self.auc:.3f} instead of {self.p_auc:.3f}, "
                f"KS {self.ks:.3f} instead of {self.p_ks:.3f}"
            )
        return tuple(found)


def points_figures(
    members: pa.Table, p_bad: Floats, *, model_id: str, splits: Sequence[str], card: Card
) -> list[Figure]:
    """The figures of a model's points on every split that has samples.

    Args:
        members: sample_id, split and label of the samples, in the order of the probabilities.
        p_bad: uncalibrated probabilities; shape [samples].
        model_id: the model.
        splits: splits to measure.
        card: scaling of the points.
    """
    split, labels = np.asarray(members["split"]), np.asarray(members["label"])
    select = split == "select"
    points = card_scores(calibrated(fit_calibration(p_bad[select], labels[select]), p_bad), card)
    found = []
    for name in splits:
        chosen = split == name
        if chosen.any():
            values = _measures(labels[chosen], points[chosen])
            found += [
                Figure(
                    model_id=model_id,
                    split=name,
                    metric=metric,
                    value=value,
                    low=None,
                    high=None,
                    samples=int(chosen.sum()),
                )
                for metric, value in zip(METRICS, values, strict=True)
            ]
    return found


def points_quality(measured: ModelFigures, split: str) -> PointsQuality | None:
    """The published figures of the points of the evaluated model; None for a run of an earlier version."""
    if (measured.model_id, split, METRICS[0]) not in measured.figures:
        return None
    auc, ks, lowest, highest, tie = (measured.value(measured.model_id, split, metric) for metric in METRICS)
    return PointsQuality(
        auc=auc,
        ks=ks,
        p_auc=measured.value(measured.model_id, split, "auc"),
        p_ks=measured.value(measured.model_id, split, "ks"),
        at_lowest=lowest,
        at_highest=highest,
        largest_tie=tie,
    )


def _measures(labels: NDArray[np.integer], points: NDArray[np.int32]) -> tuple[float, ...]:
    """The values of ``METRICS``."""
    curve = score_curve(labels, -points.astype(np.float64))
    _, counts = np.unique(points, return_counts=True)
    return (
        curve.auc,
        curve.ks,
        float(np.mean(points == LOWEST)),
        float(np.mean(points == HIGHEST)),
        float(counts.max() / len(points)),
    )
