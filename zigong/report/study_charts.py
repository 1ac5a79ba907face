"""Charts of the selection study: AUC by the size of the choice, and the lead over chance of the rules that won."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from zigong.report.study_section import StudyRow
from zigong.report.svg import Frame, axes, dot, drawing, legend, path, segment, text

_ROW = 24  # pixels
_LINES = 5
_STYLES = ("line own", "line other1", "line other2", "line other3", "line other4")


def curves_chart(rows: Sequence[StudyRow]) -> Markup:
    """AUC by share in the first condition, of ``at random`` and of the rules with the largest AUC at any share."""
    shown = [row for row in rows if (row.flipped, row.budget) == (rows[0].flipped, rows[0].budget)]
    best = {rule: max(row.auc.value for row in shown if row.rule == rule) for rule in {row.rule for row in shown}}
    rules = sorted(best, key=lambda rule: (rule != "at random", -best[rule], rule))[:_LINES]
    drawn = [row for row in shown if row.rule in rules]
    low, high = min(row.auc.value for row in drawn), max(row.auc.value for row in drawn)
    frame = Frame(x=(0.0, 1.0), y=(low - 0.02, high + 0.02), width=960, height=400)
    parts = axes(
        frame,
        x_label="share of the training samples",
        y_label="AUC, mean of the trainings",
        x_format="{:.0%}".format,
        y_format="{:.3f}".format,
    )
    for style, rule in zip(_STYLES, rules, strict=False):
        points = sorted((row.share, row.auc.value) for row in drawn if row.rule == rule)
        parts.append(path(frame, [x for x, _ in points], [y for _, y in points], style))
        parts += [dot(frame, x, y, "dot", f"{rule}, {x:.0%}: {y:.3f}") for x, y in points]
    entries = list(zip(_STYLES, rules, strict=False))
    top = frame.height - frame.bottom - 17 * len(entries)
    title = f"AUC by share of the training samples, equal {rows[0].budget}{_wrong(rows[0])}"
    parts.append(text(frame.left, 12, title, "tick"))
    return drawing(frame, title, [*parts, *legend(frame.at_x(0.62), top, entries)])


def leads_chart(rows: Sequence[StudyRow]) -> Markup:
    """The lead over chance of the rule that ``select`` chose, for each budget, share of wrong labels and size."""
    chosen = [row for row in rows if row.chosen]
    ends = [0.0, *(end for row in chosen for end in (row.lead.low, row.lead.high))]
    height = 56 + _ROW * len(chosen)
    span = (min(ends) - 0.01, max(ends) + 0.01)
    frame = Frame(x=span, y=(0.0, float(len(chosen))), width=960, height=height, left=470, right=64, top=8)
    parts = axes(frame, x_label="AUC ahead of random samples", y_label="", x_format="{:+.3f}".format, y_format=None)
    parts.append(segment(frame, (0.0, 0.0), (0.0, frame.y[1]), "rule"))
    for place, row in enumerate(chosen):
        y = len(chosen) - place - 0.5
        words = f"{_condition(row)}: {row.rule}"
        hint = f"{words}: {row.lead.value:+.3f} ({row.lead.low:+.3f} to {row.lead.high:+.3f})"
        parts.append(text(frame.left - 12, frame.at_y(y) + 4, words, "tick end"))
        parts.append(segment(frame, (row.lead.low, y), (row.lead.high, y), "whisker own"))
        parts.append(dot(frame, row.lead.value, y, "dot own", hint))
        parts.append(text(frame.width - frame.right + 10, frame.at_y(y) + 4, f"{row.lead.value:+.3f}", "tick"))
    return drawing(frame, "lead over random samples", parts)


def _condition(row: StudyRow) -> str:
    return f"{row.share:.0%}, equal {row.budget}{_wrong(row)}"


def _wrong(row: StudyRow) -> str:
    return f", {row.flipped:.0%} wrong labels" if row.flipped else ""
