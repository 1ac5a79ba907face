"""The charts of a run report, each a pure function from figures to inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from zigong.evaluation.metrics import Curve, score_curve
from zigong.report.run_report import HeldOut, ModelRow
from zigong.report.svg import Frame, axes, bar, dot, drawing, legend, path, segment, stairs, text

Floats = NDArray[np.float64]

_MAX_POINTS = 160
_MAX_LINES = 5
_SHOWN_QUANTILES = (0.005, 0.995)  # histograms are cut at these quantiles, the outermost bins hold the rest


@dataclass(frozen=True, kw_only=True)
class Band:
    """A part of the clients by risk, riskiest first; clients with equal points are in one band."""

    number: int
    samples: int
    bad: int
    bad_rate: float
    expected: float | None
    lowest: float
    highest: float
    captured: float  # share of all bad in this and riskier bands


def roc_chart(held_out: HeldOut, final_model: str) -> Markup:
    """ROC curves of the final model and its rivals."""
    frame = Frame(x=(0.0, 1.0), y=(0.0, 1.0), height=400)
    curves = _ordered_curves(held_out, final_model)
    parts = axes(
        frame,
        x_label="share of good above the cut",
        y_label="share of bad above the cut",
        x_format=_percent,
        y_format=_percent,
    )
    parts.append(segment(frame, (0, 0), (1, 1), "rule"))
    styles = {name: _line_style(i) for i, name in enumerate(curves)}
    for name, curve in reversed(list(curves.items())):
        keep = _thinned(len(curve.bad))
        parts.append(path(frame, curve.good[keep].tolist(), curve.bad[keep].tolist(), styles[name]))
    entries = [(styles[name], f"{name}  {curve.auc:.3f}") for name, curve in curves.items()]
    top = frame.at_y(0.04) - 17 * (len(entries) - 1)
    return drawing(frame, "ROC curves with AUC", [*parts, *legend(frame.at_x(0.56), top, entries)])


def ks_chart(held_out: HeldOut, final_model: str) -> Markup:
    """Cumulative shares of bad and good against the share of clients, riskiest first, with the widest gap."""
    curve = score_curve(held_out.labels, held_out.scores[final_model])
    bad_rate = float(np.mean(held_out.labels))
    clients = bad_rate * curve.bad + (1 - bad_rate) * curve.good
    widest = int(np.argmax(np.abs(curve.bad - curve.good)))
    frame = Frame(x=(0.0, 1.0), y=(0.0, 1.0), height=400)
    parts = axes(
        frame, x_label="share of clients, riskiest first", y_label="share reached", x_format=_percent, y_format=_percent
    )
    keep = _thinned(len(clients))
    parts.append(path(frame, clients[keep].tolist(), curve.good[keep].tolist(), "line good"))
    parts.append(path(frame, clients[keep].tolist(), curve.bad[keep].tolist(), "line bad"))
    x = float(clients[widest])
    parts.append(segment(frame, (x, float(curve.good[widest])), (x, float(curve.bad[widest])), "gap"))
    words = f"KS {curve.ks:.3f} at {x:.0%} of clients"
    middle = frame.at_y((curve.good[widest] + curve.bad[widest]) / 2) + 4
    left = x > 0.5  # so that the words stay within the drawing
    parts.append(text(frame.at_x(x) + (-8 if left else 8), middle, words, "note end" if left else "note"))
    entries = [("line bad", "bad"), ("line good", "good")]
    return drawing(frame, words, [*parts, *legend(frame.at_x(0.78), frame.at_y(0.14), entries)])


def forest_chart(rows: Sequence[ModelRow], final_model: str) -> Markup:
    """AUC of every model with its interval, best first; a constant, whose AUC is 0.5 by definition, is omitted."""
    moving = [row for row in rows if row.auc.low < row.auc.high or row.model == final_model]
    ordered = sorted(moving or rows, key=lambda row: -row.auc.value)
    low, high = min(row.auc.low for row in ordered), max(row.auc.high for row in ordered)
    margin = max((high - low) * 0.08, 0.01)
    frame = Frame(
        x=(low - margin, high + margin),
        y=(0.0, float(len(ordered))),
        width=960,
        height=56 + 30 * len(ordered),
        left=170,
        right=180,
        top=8,
    )
    parts = axes(frame, x_label="AUC, higher ranks better", y_label="", x_format="{:.2f}".format, y_format=None)
    for place, row in enumerate(ordered):
        y, own = len(ordered) - place - 0.5, " own" if row.model == final_model else ""
        words = f"{row.auc.value:.3f} ({row.auc.low:.3f} to {row.auc.high:.3f})"
        parts.append(text(frame.left - 12, frame.at_y(y) + 4, row.model, f"tick end{own}"))
        parts.append(segment(frame, (row.auc.low, y), (row.auc.high, y), f"whisker{own}"))
        parts.append(dot(frame, row.auc.value, y, f"dot{own}", f"{row.model}: {words}"))
        parts.append(text(frame.width - frame.right + 10, frame.at_y(y) + 4, words, f"tick{own}"))
    return drawing(frame, "AUC of every model with its interval", parts)


def risk_bands(held_out: HeldOut, final_model: str, count: int = 10) -> tuple[Band, ...]:
    """Clients in ``count`` near-equal parts by the final model's points, riskiest first.

    A band ends only where the points change, so there are fewer bands where many clients share their points, and one
    where all do. Without points, p_bad takes their place.
    """
    scores, labels = held_out.scores[final_model], np.asarray(held_out.labels)
    shown = scores if held_out.card_scores is None else held_out.card_scores
    risk = scores if held_out.card_scores is None else -held_out.card_scores
    bands, reached = [], 0
    for number, rows in enumerate(_divided_at_changes(risk, min(count, len(risk))), 1):
        bad = int(labels[rows].sum())
        reached += bad
        expected = None if held_out.p_calibrated is None else float(held_out.p_calibrated[rows].mean())
        band = Band(
            number=number,
            samples=len(rows),
            bad=bad,
            bad_rate=bad / len(rows),
            expected=expected,
            lowest=float(shown[rows].min()),
            highest=float(shown[rows].max()),
            captured=reached / max(int(labels.sum()), 1),
        )
        bands.append(band)
    return tuple(bands)


def _divided_at_changes(risk: NDArray[np.number], count: int) -> list[NDArray[np.int64]]:
    """Indices in at most ``count`` parts of near-equal size, largest risk first; equal values are in one part."""
    order = np.argsort(-risk, kind="stable")
    changes = np.flatnonzero(np.diff(risk[order])) + 1
    wanted = np.cumsum([len(part) for part in np.array_split(order, count)])[:-1]
    later = np.searchsorted(changes, wanted)
    return np.split(order, np.unique(changes[later[later < len(changes)]]))


def band_chart(bands: Sequence[Band]) -> Markup:
    """Bad rate of each band as a bar, the calibrated expectation as a dot, the overall rate as a line."""
    overall = sum(band.bad for band in bands) / sum(band.samples for band in bands)
    tallest = max(max(band.bad_rate, band.expected or 0.0) for band in bands)
    frame = Frame(x=(0.5, len(bands) + 0.5), y=(0.0, max(tallest * 1.12, 0.01)))
    numbers = [float(band.number) for band in bands]
    parts = axes(
        frame,
        x_label="risk band, riskiest first",
        y_label="bad rate",
        x_ticks=numbers,
        x_format=lambda v: f"{v:.0f}",
        y_format=_fine_percent,
    )
    for band in bands:
        hint = f"band {band.number}: {band.bad} bad of {band.samples} ({band.bad_rate:.1%})"
        parts.append(bar(frame, (band.number - 0.36, band.number + 0.36), band.bad_rate, "bar", hint))
    parts.append(segment(frame, (frame.x[0], overall), (frame.x[1], overall), "rule"))
    parts.append(text(frame.width - frame.right, frame.at_y(overall) - 6, f"overall {overall:.1%}", "tick end"))
    for band in bands:
        if band.expected is not None:
            hint = f"band {band.number}: expected {band.expected:.1%}"
            parts.append(dot(frame, band.number, band.expected, "dot expected", hint))
    return drawing(frame, "Bad rate by risk band", parts)


def distribution_chart(values: Floats, labels: NDArray[np.integer], x_label: str, *, whole: bool = False) -> Markup:
    """Two histograms over the same bins, each class with area one."""
    shown = np.asarray(values, dtype=np.float64)
    classes = {"line good": labels == 0, "line bad": labels == 1}
    ends = [np.quantile(shown[member], _SHOWN_QUANTILES) for member in classes.values() if member.any()]
    low, high = float(np.min(ends)), float(np.max(ends))
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    edges = np.linspace(low, high, 33)
    shares = {}
    for style, member in classes.items():
        counts, _ = np.histogram(np.clip(shown[member], low, high), edges)
        shares[style] = counts / max(int(counts.sum()), 1)
    frame = Frame(x=(low, high), y=(0.0, max(float(share.max()) for share in shares.values()) * 1.25))
    number = "{:.0f}" if whole else "{:.3g}"
    parts = axes(frame, x_label=x_label, y_label="share of class", x_format=number.format, y_format=_fine_percent)
    for style, share in shares.items():
        x, y = stairs(edges.tolist(), share.tolist())
        parts.append(path(frame, x, y, style.replace("line", "area"), close=True))
        parts.append(path(frame, x, y, style))
    entries = [
        (style, f"{style[5:]}, mean {number.format(shown[member].mean())}")
        for style, member in classes.items()
        if member.any()
    ]
    return drawing(frame, f"Distribution of {x_label}", [*parts, *legend(frame.left + 12, frame.top + 12, entries)])


def _ordered_curves(held_out: HeldOut, final_model: str) -> dict[str, Curve]:
    """The final model first, then the strongest others; a constant has no curve."""
    curves = {name: score_curve(held_out.labels, scores) for name, scores in held_out.scores.items()}
    names = sorted(curves, key=lambda name: (name != final_model, -curves[name].auc))
    drawn = [name for name in names if len(curves[name].cuts) > 1 or name == final_model]
    return {name: curves[name] for name in drawn[:_MAX_LINES]}


def _line_style(place: int) -> str:
    return "line own" if place == 0 else f"line other{place}"


def _thinned(length: int) -> NDArray[np.int64]:
    """Indices of at most so many points, both ends included."""
    return np.unique(np.linspace(0, length - 1, min(length, _MAX_POINTS)).round().astype(np.int64))


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _fine_percent(value: float) -> str:
    return f"{value:.1%}".replace(".0%", "%")
