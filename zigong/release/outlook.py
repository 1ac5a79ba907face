"""What is known of a scored book before its labels are mature: shift of the scores, expected AUC and KS."""

from __future__ import annotations

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from zigong.evaluation.calibration import calibrated
from zigong.evaluation.metrics import expected_curve
from zigong.evaluation.shift import score_psi
from zigong.lakehouse.tables import published_version
from zigong.release.model import Model
from zigong.runs.job import Job

Floats = NDArray[np.float64]


def outlook(p_bad: Floats, reference: Floats) -> dict[str, float]:
    """Figures of scores without labels, for metrics.json.

    Args:
        p_bad: calibrated probabilities of the scored clients or loans; shape [scored].
        reference: calibrated probabilities of the same model on ``select``; empty if they are not at hand.

    Returns:
        ``score.mean_p_bad``, the expected bad rate; ``score.expected_auc`` and ``score.expected_ks``, which hold as far
        as the calibration does; ``score.psi`` against the reference. Empty where nobody is scored.
    """
    if not len(p_bad):
        return {}
    curve = expected_curve(p_bad)
    figures = {
        "score.mean_p_bad": float(p_bad.mean()),
        "score.expected_auc": curve.auc,
        "score.expected_ks": curve.ks,
    }
    return figures | ({"score.psi": score_psi(reference, p_bad)} if len(reference) else {})


def select_scores(job: Job, model: Model) -> Floats:
    """The calibrated answers of a model to ``select``, on which it was calibrated; empty if this lakehouse has none.

    A refitted model has seen ``select``: the answers are those of the model that the gate judged.
    """
    if published_version(job.paths, "evaluation_answers") is None:
        return np.zeros(0)
    judged = model.parents[0] if model.parents else model.model_id
    own = (ds.field("dataset_id") == model.dataset_id) & (ds.field("model_id") == judged)
    answers = job.arrow("evaluation_answers", ["p_bad"], where=own & (ds.field("split") == "select"))
    return calibrated(model.calibration, answers["p_bad"].to_numpy())
