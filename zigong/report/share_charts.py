"""Charts with one row per name: shares as bars, and the AUC of two models by groups of clients."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from zigong.evaluation.bootstrap import Interval
from zigong.report.run_report import Share, SliceRow, Slices
from zigong.report.svg import Frame, axes, dot, drawing, legend, segment, text

_ROW = 24  # pixels


def shares_chart(shares: Sequence[Share], x_label: str, *, wide: bool, rule: float | None = None) -> Markup:
    """One row per share: a line from 0, its end as a dot, the number at the right.

    Args:
        shares: at least one.
        x_label: what is shared.
        wide: whether the chart has the whole width of the page, or half of it.
        rule: a share that the others are compared with, as a vertical line.
    """
    widest = max([share.value for share in shares] + ([rule] if rule is not None else []))
    left, width = (350, 960) if wide else (160, 520)
    frame = _frame(len(shares), (0.0, min(1.0, max(widest * 1.1, 0.01))), left=left, width=width)
    parts = axes(frame, x_label=x_label, y_label="", x_format=_percent, y_format=None)
    if rule is not None:
        parts.append(segment(frame, (rule, 0.0), (rule, frame.y[1]), "rule"))
    for place, share in enumerate(shares):
        y, words = len(shares) - place - 0.5, f"{share.name}: {share.value:.0%} {share.note}".strip()
        parts.append(text(frame.left - 12, frame.at_y(y) + 4, share.name, "tick end"))
        parts.append(segment(frame, (0.0, y), (share.value, y), "whisker own"))
        parts.append(dot(frame, share.value, y, "dot own", words))
        parts.append(text(frame.width - frame.right + 10, frame.at_y(y) + 4, f"{share.value:.0%}", "tick"))
    return drawing(frame, x_label, parts)


def slices_chart(slices: Slices, final_model: str) -> Markup | None:
    """AUC with intervals of two models in every measured group of clients; None if none was measured."""
    rows = [row for row in slices.rows if row.own is not None]
    ends = [end for row in rows for auc in (row.own, row.other) if auc is not None for end in (auc.low, auc.high)]
    if not rows:
        return None
    frame = _frame(len(rows), (min(ends) - 0.01, max(ends) + 0.01), left=250, width=960, row=34, top=44)
    parts = axes(frame, x_label="AUC, higher ranks better", y_label="", x_format="{:.2f}".format, y_format=None)
    entries = [("whisker own", final_model), ("whisker", slices.other_model)]
    parts += legend(frame.left, 14, entries)
    for place, row in enumerate(rows):
        y = len(rows) - place - 0.5
        parts.append(text(frame.left - 12, frame.at_y(y) + 4, _named(row), "tick end"))
        for auc, shift, own in ((row.own, 0.17, " own"), (row.other, -0.17, "")):
            parts += _whisker(frame, auc, y + shift, own, row.name) if auc is not None else []
        if row.own is not None:
            parts.append(text(frame.width - frame.right + 10, frame.at_y(y) + 4, f"{row.own.value:.3f}", "tick"))
    return drawing(frame, "AUC by groups of clients", parts)


def _whisker(frame: Frame, auc: Interval, y: float, own: str, name: str) -> list[Markup]:
    words = f"{name}: {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
    return [segment(frame, (auc.low, y), (auc.high, y), f"whisker{own}"), dot(frame, auc.value, y, f"dot{own}", words)]


def _named(row: SliceRow) -> str:
    return f"{row.name.replace('=', ': ', 1)} ({row.share:.0%})"


def _frame(rows: int, x: tuple[float, float], *, left: int, width: int, row: int = _ROW, top: int = 8) -> Frame:
    height = 48 + top + row * rows
    return Frame(x=x, y=(0.0, float(rows)), width=width, height=height, left=left, right=64, top=top)


def _percent(value: float) -> str:
    return f"{value:.0%}"
