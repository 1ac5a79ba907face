"""Small inline SVG: a frame with two linear axes and the few shapes the charts need.

Colours come from CSS classes of report.css, so a chart follows the light or dark theme of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A plotting area: data spans on pixels, y upwards."""

    x: Span
    y: Span
    width: int = 520
    height: int = 340
    left: int = 54
    right: int = 18
    top: int = 18
    bottom: int = 48

    def at_x(self, value: float) -> float:
        """Pixel of an x value."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def at_y(self, value: float) -> float:
        """Pixel of a y value."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)


def drawing(frame: Frame, title: str, parts: Iterable[Markup]) -> Markup:
    """The complete picture; the title is for screen readers and shown on hover."""
    head = Markup('<svg viewBox="0 0 {} {}" role="img"><title>{}</title>').format(frame.width, frame.height, title)
    return head + Markup("").join(parts) + Markup("</svg>")


def ticks(span: Span, count: int = 5) -> list[float]:
    """Round values within the span, about ``count`` of them."""
    rough = (span[1] - span[0]) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(span[0] / step - 1e-9)
    last = math.floor(span[1] / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def axes(
    frame: Frame,
    *,
    x_label: str,
    y_label: str,
    x_format: Callable[[float], str],
    y_format: Callable[[float], str] | None,
    x_ticks: Sequence[float] | None = None,
) -> list[Markup]:
    """Grid lines, tick texts and axis titles; without ``y_format`` the y axis is bare."""
    bottom, parts = frame.height - frame.bottom, []
    for value in ticks(frame.y) if y_format else []:
        parts.append(segment(frame, (frame.x[0], value), (frame.x[1], value), "grid"))
        parts.append(text(frame.left - 8, frame.at_y(value) + 4, (y_format or str)(value), "tick end"))
    for value in ticks(frame.x) if x_ticks is None else x_ticks:
        parts.append(text(frame.at_x(value), bottom + 18, x_format(value), "tick middle"))
    parts.append(segment(frame, (frame.x[0], frame.y[0]), (frame.x[1], frame.y[0]), "axis"))
    parts.append(text((frame.left + frame.width - frame.right) / 2, frame.height - 8, x_label, "label middle"))
    middle = (frame.top + bottom) / 2
    rotated = Markup('<text class="label middle" transform="translate(14 {}) rotate(-90)">{}</text>')
    return [*parts, rotated.format(middle, y_label)] if y_label else parts


def text(x: float, y: float, content: str, style: str) -> Markup:
    """A text at a pixel position."""
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(style, round(x, 1), round(y, 1), content)


def segment(frame: Frame, start: Span, end: Span, style: str) -> Markup:
    """A straight line between two data points."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        style, frame.at_x(start[0]), frame.at_y(start[1]), frame.at_x(end[0]), frame.at_y(end[1])
    )


def path(frame: Frame, x: Sequence[float], y: Sequence[float], style: str, *, close: bool = False) -> Markup:
    """A line through data points; closed, it is an area down to the x axis."""
    points = [f"{frame.at_x(a)} {frame.at_y(b)}" for a, b in zip(x, y, strict=True)]
    if close:
        base = frame.at_y(frame.y[0])
        points = [f"{frame.at_x(x[0])} {base}", *points, f"{frame.at_x(x[-1])} {base}"]
    return Markup('<path class="{}" d="M{}{}"/>').format(style, "L".join(points), "Z" if close else "")


def bar(frame: Frame, span: Span, value: float, style: str, hint: str) -> Markup:
    """A bar from the x axis up to a value, with a hint on hover."""
    left, right = frame.at_x(span[0]), frame.at_x(span[1])
    top, base = frame.at_y(value), frame.at_y(frame.y[0])
    shape = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="2"><title>{}</title></rect>')
    return shape.format(style, left, top, round(right - left, 1), round(max(base - top, 0), 1), hint)


def dot(frame: Frame, x: float, y: float, style: str, hint: str) -> Markup:
    """A point with a hint on hover."""
    shape = Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>')
    return shape.format(style, frame.at_x(x), frame.at_y(y), hint)


def stairs(edges: Sequence[float], heights: Sequence[float]) -> tuple[list[float], list[float]]:
    """The outline of a histogram, from edges [bins + 1] and heights [bins]."""
    return np.repeat(edges, 2)[1:-1].tolist(), np.repeat(heights, 2).tolist()


def legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> list[Markup]:
    """Rows of (style, text) below each other, with a sample of the line before the text."""
    row = Markup('<g transform="translate({} {})"><line class="{}" x1="0" y1="-4" x2="22" y2="-4"/>{}</g>')
    words = Markup('<text class="tick" x="28" y="0">{}</text>')
    return [row.format(x, y + 17 * i, style, words.format(escape(name))) for i, (style, name) in enumerate(entries)]
