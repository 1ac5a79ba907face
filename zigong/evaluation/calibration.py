"""Calibration of probabilities: Platt scaling on the logit, fitted on the split ``select``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from zigong.errors import DataError

Floats = NDArray[np.float64]

_SMALLEST_P = 1e-7


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """``p = 1 / (1 + exp(-(intercept + slope * logit(p_bad))))``; the identity is (0, 1)."""

    intercept: float
    slope: float


def fit_calibration(p_bad: Floats, label: NDArray[np.integer]) -> Calibration:
    """Fits intercept and slope by maximum likelihood with Platt's smoothed targets (Platt 1999, section 2.2).

    The slope is constrained to be 0 or more, so calibration never inverts the ranking: a model with an inverted ranking
    on ``select`` is calibrated to the constant bad rate, the best monotone fit.

    Args:
        p_bad: probabilities of bad; shape [samples].
        label: 1 = bad; shape [samples].

    Raises:
        DataError: shapes differ or one class is missing.
    """
    bad = np.asarray(label) == 1
    if len(bad) != len(p_bad) or bad.all() or not bad.any():
        raise DataError(
            f"expected one label per probability and both classes, found {len(p_bad)} probabilities and "
            f"{int(bad.sum())} bad of {len(bad)} labels",
            action="calibrate on a split that contains both classes",
        )
    x = log_odds(p_bad)
    positives, negatives = int(bad.sum()), int((~bad).sum())
    target = np.where(bad, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, width = float(x.mean()), max(float(x.std()), 1e-9)
    z = (x - centre) / width

    def loss(theta: Floats) -> tuple[float, Floats]:
        eta = theta[0] + theta[1] * z
        residual = expit(eta) - target
        return float(np.mean(np.logaddexp(0, eta) - target * eta)), np.array([residual.mean(), (residual * z).mean()])

    start = np.array([np.log(target.mean() / (1 - target.mean())), 1.0])
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500}
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), (0, None)], options=options)
    slope = float(fit.x[1]) / width if x.std() > 1e-9 else 0.0
    return Calibration(intercept=float(fit.x[0]) - slope * centre, slope=slope)


def calibrated(calibration: Calibration, p_bad: Floats) -> Floats:
    """Calibrated probabilities of bad; shape [samples]."""
    p: Floats = expit(calibration.intercept + calibration.slope * log_odds(p_bad))
    return p


def log_odds(p_bad: Floats) -> Floats:
    """Log-odds of probabilities, which are clipped to [1e-7, 1 - 1e-7]; shape [samples]."""
    p = np.clip(np.asarray(p_bad, dtype=np.float64), _SMALLEST_P, 1 - _SMALLEST_P)
    odds: Floats = np.log(p) - np.log1p(-p)
    return odds


def averaged(p_bad: Sequence[Floats], weights: Sequence[float] | None = None) -> Floats:
    """The mean of probabilities in log-odds; shape [samples].

    Args:
        p_bad: probabilities of bad of each model; shape [samples] each.
        weights: weight of each model; None: all weigh the same.
    """
    mean: Floats = expit(np.average([log_odds(one) for one in p_bad], axis=0, weights=weights))
    return mean
