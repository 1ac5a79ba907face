"""Metrics of one model under any weights of its samples, so that a bootstrap needs one pass per resample.

Sums over samples are prepared once as columns of a matrix, which a resample multiplies with its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, matthews_corrcoef

from zigong.evaluation.calibration import log_odds
from zigong.evaluation.metrics import Curve, Floats, Ranked, brier, log_loss, rank_scores, sample_log_loss

Bools = NDArray[np.bool_]

_WIDTH = 1e-9  # log-odds that vary by less are constant: no slope can be fitted


@dataclass(frozen=True, kw_only=True)
class Resample:
    """One model on one resample of a split; the sample itself is the resample of weight 1.

    Attributes:
        curve: the ROC and KS curve with these weights.
        sums: weighted sums over the samples, by name: ``samples``, ``bad``; ``called`` and ``hits`` with a threshold;
            ``missed`` where misses are known; the losses and terms of the calibration for probabilities.
        line: intercept and slope of the calibration on the sample itself; None for scores that are no probabilities
            and for a constant.
    """

    curve: Curve
    sums: Mapping[str, float]
    line: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One model on the samples of a split, prepared for resamples.

    Attributes:
        ranked: its sorted scores.
        names: names of the sums.
        terms: terms of the sums; shape [samples, names].
        line: see :class:`Resample`.
        values: metrics of the sample itself as scikit-learn computes them.
    """

    ranked: Ranked
    names: tuple[str, ...]
    terms: Floats
    line: tuple[float, float] | None
    values: Mapping[str, float]

    @classmethod
    def of(
        cls,
        labels: NDArray[np.integer],
        scores: Floats,
        *,
        threshold: float | None = None,
        missed: Bools | None = None,
    ) -> Scored:
        """Prepares a model.

        Args:
            labels: 1 = bad; shape [samples].
            scores: higher is worse; shape [samples]. If all are in [0, 1] they are probabilities of bad.
            threshold: score at or above which a sample is classified as bad.
            missed: whether the model generated none of the choices; shape [samples].

        Raises:
            DataError: shapes differ, a score is not finite, or one class is missing.
        """
        ranked, p = rank_scores(labels, scores), np.asarray(scores, dtype=np.float64)
        bad = ranked.bad
        columns: dict[str, NDArray[np.generic]] = {"samples": np.ones(len(bad)), "bad": bad}
        values = {"pr_auc": float(average_precision_score(bad, p))}
        line = None
        if threshold is not None:
            called = p >= threshold
            columns |= {"called": called, "hits": called & bad}
            values |= _values_at_threshold(bad, called)
        if missed is not None:
            columns["missed"] = missed
        if ((p >= 0) & (p <= 1)).all():
            line = calibration_line(labels, p)
            columns |= {"squared_error": (p - bad) ** 2, "log_loss": sample_log_loss(bad, p)}
            columns |= _calibration_terms(bad, p, line) if line is not None else {}
            values |= {"brier": brier(labels, p), "log_loss": log_loss(labels, p)}
        terms = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])
        return cls(ranked=ranked, names=tuple(columns), terms=terms, line=line, values=values)

    def measured(self, weights: Floats) -> dict[str, float]:
        """Every metric that is defined, with weights of the samples; shape [samples]."""
        sums = dict(zip(self.names, (weights @ self.terms).tolist(), strict=True))
        resample = Resample(curve=self.ranked.curve(weights), sums=sums, line=self.line)
        found = {name: measure(resample) for name, measure in INTERVAL_METRICS.items()}
        return {name: value for name, value in found.items() if value is not None}


def calibration_line(labels: NDArray[np.integer], p_bad: Floats) -> tuple[float, float] | None:
    """Intercept and slope of the logistic regression of the label on the log-odds of p_bad (Cox 1958).

    A calibrated model has 0 and 1; a slope below 1 means that its probabilities are too extreme. None for a constant.
    """
    x = log_odds(p_bad)
    if x.std() < _WIDTH:
        return None
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], np.asarray(labels) == 1)
    return float(fit.intercept_[0]), float(fit.coef_[0, 0])


def _calibration_terms(bad: Bools, p_bad: Floats, line: tuple[float, float]) -> dict[str, NDArray[np.generic]]:
    """Gradient and curvature of the likelihood of each sample at the fitted line."""
    x = log_odds(p_bad)
    fitted = expit(line[0] + line[1] * x)
    residual, curvature = bad - fitted, fitted * (1 - fitted)
    return {
        "gradient": residual,
        "gradient_x": residual * x,
        "curvature": curvature,
        "curvature_x": curvature * x,
        "curvature_xx": curvature * x * x,
    }


def _values_at_threshold(bad: Bools, called: Bools) -> dict[str, float]:
    return {
        "mcc": float(matthews_corrcoef(bad, called)),
        "accuracy": float(accuracy_score(bad, called)),
        "f1_macro": float(f1_score(bad, called, average="macro", zero_division=0)),
        "f1_weighted": float(f1_score(bad, called, average="weighted", zero_division=0)),
    }


@dataclass(frozen=True, kw_only=True)
class _Confusion:
    """Weighted counts at the threshold; bad is the positive class."""

    true_bad: float
    false_bad: float
    true_good: float
    false_good: float


def _confusion(resample: Resample) -> _Confusion | None:
    sums = resample.sums
    if "called" not in sums:
        return None
    hits, good = sums["hits"], sums["samples"] - sums["bad"]
    false_bad = sums["called"] - hits
    return _Confusion(true_bad=hits, false_bad=false_bad, true_good=good - false_bad, false_good=sums["bad"] - hits)


def _mcc(resample: Resample) -> float | None:
    """Matthews correlation, 0 where a prediction is constant (Matthews 1975)."""
    if (n := _confusion(resample)) is None:
        return None
    called, spared = n.true_bad + n.false_bad, n.true_good + n.false_good
    spread = called * spared * resample.sums["bad"] * (resample.sums["samples"] - resample.sums["bad"])
    top = n.true_bad * n.true_good - n.false_bad * n.false_good
    return top / math.sqrt(spread) if spread > 0 else 0.0


def _accuracy(resample: Resample) -> float | None:
    n = _confusion(resample)
    return None if n is None else (n.true_bad + n.true_good) / resample.sums["samples"]


def _f1_of_classes(n: _Confusion) -> tuple[float, float]:
    """F1 of bad and of good; 0 where a class is neither present nor called."""
    wrong = n.false_bad + n.false_good
    bad, good = 2 * n.true_bad + wrong, 2 * n.true_good + wrong
    return (2 * n.true_bad / bad if bad else 0.0), (2 * n.true_good / good if good else 0.0)


def _f1_macro(resample: Resample) -> float | None:
    n = _confusion(resample)
    return None if n is None else sum(_f1_of_classes(n)) / 2


def _f1_weighted(resample: Resample) -> float | None:
    if (n := _confusion(resample)) is None:
        return None
    share = resample.sums["bad"] / resample.sums["samples"]
    of_bad, of_good = _f1_of_classes(n)
    return share * of_bad + (1 - share) * of_good


def _average_precision(resample: Resample) -> float:
    """Precision at each distinct score, weighted by the recall that the score adds."""
    bad = resample.curve.bad[1:] * resample.sums["bad"]
    called = bad + resample.curve.good[1:] * (resample.sums["samples"] - resample.sums["bad"])
    precision = np.divide(bad, called, out=np.zeros_like(bad), where=called > 0)
    return float(np.sum(np.diff(resample.curve.bad) * precision))


def _mean(name: str) -> Callable[[Resample], float | None]:
    return lambda resample: resample.sums[name] / resample.sums["samples"] if name in resample.sums else None


def _calibration(place: int) -> Callable[[Resample], float | None]:
    """Intercept (0) or slope (1): one Newton step from the sample's own line (Davidson and MacKinnon 1999)."""

    def measure(resample: Resample) -> float | None:
        if resample.line is None:
            return None
        s = resample.sums
        determinant = s["curvature"] * s["curvature_xx"] - s["curvature_x"] ** 2
        if determinant <= 0:
            return resample.line[place]
        steps = (
            s["curvature_xx"] * s["gradient"] - s["curvature_x"] * s["gradient_x"],
            s["curvature"] * s["gradient_x"] - s["curvature_x"] * s["gradient"],
        )
        return resample.line[place] + steps[place] / determinant

    return measure


# Metrics of resamples; None if they are not defined for the model. The reported value of a metric that scikit-learn has
# is scikit-learn's; its functions validate the labels at every call, so the resamples use the sums.
INTERVAL_METRICS: dict[str, Callable[[Resample], float | None]] = {
    "auc": lambda resample: resample.curve.auc,
    "ks": lambda resample: resample.curve.ks,
    "mcc": _mcc,
    "pr_auc": _average_precision,
    "accuracy": _accuracy,
    "f1_macro": _f1_macro,
    "f1_weighted": _f1_weighted,
    "miss": _mean("missed"),
    "bad_rate": _mean("bad"),
    "brier": _mean("squared_error"),
    "log_loss": _mean("log_loss"),
    "calibration_slope": _calibration(1),
    "calibration_intercept": _calibration(0),
}
