"""Plots as inline SVG: rows of rules in panels side by side, and lines over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pointsman_policy.evaluation.html import Html, element, join, text

_WIDTH = 1_080
_ROW = 23
_TOP = 30
_BOTTOM = 24
_GAP = 26
_CHARACTER = 6.6
_SERIES_COLOURS = 10


@dataclass(frozen=True)
class Axis:
    """A horizontal scale over a part of the drawing."""

    low: float
    high: float
    left: float
    width: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return where a value is, within the axis."""
        low, high, value = (self._scale(number) for number in (self.low, self.high, value))
        return self.left + self.width * min(max((value - low) / (high - low), 0.0), 1.0)

    def _scale(self, value: float) -> float:
        return math.log(max(value, 1e-9)) if self.logarithmic else value

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values to be marked, with their labels."""
        if self.logarithmic:
            return _logarithmic_ticks(self.low, self.high)
        step = _round_step((self.high - self.low) / 4)
        values = [step * k for k in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]
        return [(value, f"{value:g}") for value in values]


def _logarithmic_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return decades of seconds, and 2 and 5 times these where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 50 * low else (1,)
    values = [factor * 10.0**decade for decade in decades for factor in factors]
    return [(value, _seconds_label(value)) for value in values if low <= value <= high]


def _seconds_label(seconds: float) -> str:
    if seconds >= 0.999:
        return f"{seconds:,.0f} s"
    return f"{1e3 * seconds:g} ms" if seconds >= 0.000_999 else f"{1e6 * seconds:g} µs"


def _round_step(rough: float) -> float:
    decade = 10.0 ** math.floor(math.log10(rough))
    return next(factor * decade for factor in (1, 2, 2.5, 5, 10) if factor * decade >= rough * (1 - 1e-9))


class Marks(Protocol):
    """What a panel draws in its rows."""

    @property
    def title(self) -> str:
        """Shown above the panel."""

    def axis(self, left: float, width: float) -> Axis:
        """Return the scale that holds all rows."""

    def draw(self, row: int, y: float, axis: Axis) -> list[Html]:
        """Return the marks of one row, whose middle is at y."""


@dataclass(frozen=True)
class Bars:
    """A bar with a whisker in each row."""

    title: str
    values: Sequence[tuple[float, float, float]]
    """Value, low, high of its interval (NaN = none)."""
    high: float
    """End of the axis, which starts at 0."""
    best: int
    """Row to highlight."""

    def axis(self, left: float, width: float) -> Axis:
        """Return the scale from 0."""
        return Axis(0.0, self.high, left, width - 40)

    def draw(self, row: int, y: float, axis: Axis) -> list[Html]:
        """Return bar, whisker and value."""
        value, low, high = self.values[row]
        colour = "var(--accent)" if row == self.best else "var(--bar)"
        end = axis.at(value)
        marks = [_rectangle(axis.left, y - 7, end - axis.left, 14, colour)]
        if math.isfinite(low):
            x0, x1 = axis.at(low), axis.at(high)
            end = max(end, x1)
            marks.append(line(x0, y, x1, y, "var(--ink)"))
            marks += [line(x, y - 3.5, x, y + 3.5, "var(--ink)") for x in (x0, x1)]
        marks.append(mark_label(end + 6, y + 4, f"{value:.3f}", "strong" if row == self.best else ""))
        return marks


@dataclass(frozen=True)
class Shares:
    """Parts of a whole in each row, and one figure of the same scale as a diamond."""

    title: str
    parts: Sequence[Sequence[float]]
    """Ratios, in the order of `colours`."""
    points: Sequence[float]
    """NaN = none."""
    colours: Sequence[str]

    def axis(self, left: float, width: float) -> Axis:
        """Return the scale from 0 to 1."""
        return Axis(0.0, 1.0, left, width - 8)

    def draw(self, row: int, y: float, axis: Axis) -> list[Html]:
        """Return the parts from left to right, and the diamond."""
        marks, start = [], 0.0
        for share, colour in zip(self.parts[row], self.colours, strict=True):
            if share > 0:
                marks.append(
                    _rectangle(axis.at(start), y - 7, axis.at(start + share) - axis.at(start), 14, f"var(--{colour})")
                )
            start += share
        if math.isfinite(self.points[row]):
            marks.append(diamond(axis.at(self.points[row]), y))
        return marks


@dataclass(frozen=True)
class Spans:
    """A dot for the median and a line to the 99th percentile in each row, on a logarithmic scale of seconds."""

    title: str
    values: Sequence[tuple[float, float]]
    """p50 and p99 (NaN = none)."""
    limits: tuple[float, float]
    """Ends of the axis, above 0."""
    objective: float
    """Marked across all rows; 0 = none."""
    best: int

    def axis(self, left: float, width: float) -> Axis:
        """Return the logarithmic scale."""
        return Axis(*self.limits, left, width - 14, logarithmic=True)

    def draw(self, row: int, y: float, axis: Axis) -> list[Html]:
        """Return the dot and the line."""
        p50, p99 = self.values[row]
        if not math.isfinite(p50):
            return []
        colour = "var(--accent)" if row == self.best else "var(--soft)"
        x0, x1 = axis.at(p50), axis.at(p99)
        x = axis.at(self.objective) if self.objective > 0 else math.nan
        return [
            *([line(x, y - _ROW / 2, x, y + _ROW / 2, "var(--bad)", 1.5)] if math.isfinite(x) else []),
            line(x0, y, x1, y, colour, 2.5),
            line(x1, y - 5, x1, y + 5, colour, 2.5),
            element("circle", cx=x0, cy=y, r=5, fill=colour),
        ]


def rows_plot(description: str, rows: Sequence[str], panels: Sequence[Marks]) -> Html:
    """Return panels side by side that share their rows.

    Args:
        description: Read out in place of the drawing.
        rows: Names, top to bottom.
        panels: At least one; more than four continue below.
    """
    margin = max(len(name) for name in rows) * _CHARACTER + 14
    columns = min(len(panels), 4)
    width = (_WIDTH - margin - _GAP * (columns - 1)) / columns
    height = _TOP + _ROW * len(rows) + _BOTTOM
    parts = []
    for index, panel in enumerate(panels):
        top = height * (index // columns)
        axis = panel.axis(margin + (index % columns) * (width + _GAP), width)
        parts.append(_frame(panel.title, axis, top, len(rows)))
        for row, name in enumerate(rows):
            y = top + _TOP + _ROW * (row + 0.5)
            if index % columns == 0:
                parts.append(mark_label(margin - 10, y + 4, name, anchor="end"))
            parts += panel.draw(row, y, axis)
    return _drawing(description, height * -(-len(panels) // columns), parts)


def _frame(title: str, axis: Axis, top: float, rows: int) -> Html:
    bottom = top + _TOP + _ROW * rows
    parts = [mark_label(axis.left, top + 16, title, "strong")]
    for tick, label in axis.ticks():
        x = axis.at(tick)
        parts.append(line(x, top + _TOP - 4, x, bottom, "var(--line)"))
        parts.append(mark_label(x, bottom + 15, label, "soft", "middle"))
    return join(parts)


def lines_plot(description: str, x_title: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Html:
    """Return lines over a common x axis, y from 0 to 1, with a legend.

    Args:
        description: Read out in place of the drawing.
        x_title: What x is, with its unit.
        series: Name and (x, y) points; NaN interrupts a line.
    """
    left, top, height = 44.0, 14.0, 250.0
    legend = max(len(name) for name, _ in series) * _CHARACTER + 40
    longest = max((x for _, points in series for x, _ in points), default=1.0) or 1.0
    axis = Axis(0.0, longest, left, _WIDTH - left - legend)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + height * (1 - tick)
        parts += [
            line(left, y, left + axis.width, y, "var(--line)"),
            mark_label(left - 8, y + 4, f"{tick:g}", "soft", "end"),
        ]
    parts += [mark_label(axis.at(tick), top + height + 17, label, "soft", "middle") for tick, label in axis.ticks()]
    parts.append(mark_label(left + axis.width / 2, top + height + 35, x_title, "soft", "middle"))
    for index, (name, points) in enumerate(series):
        colour = f"var(--s{index % _SERIES_COLOURS})"
        path = _path([(axis.at(x), top + height * (1 - y)) for x, y in points])
        parts.append(element("path", d=path, fill="none", stroke=colour, stroke_width=2, stroke_linejoin="round"))
        x, y = left + axis.width + 14, top + 10 + 20 * index
        parts += [line(x, y, x + 16, y, colour, 3), mark_label(x + 22, y + 4, name)]
    return _drawing(description, top + max(height + 44, 20 * len(series) + 10), parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    commands, pen_down = [], False
    for x, y in points:
        if math.isfinite(y):
            commands.append(f"{'L' if pen_down else 'M'}{x:.1f},{y:.1f}")
        pen_down = math.isfinite(y)
    return " ".join(commands)


def diamond(x: float, y: float) -> Html:
    """Return the mark of a single figure."""
    points = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
    return element("polygon", points=points, fill="var(--page)", stroke="var(--ink)", stroke_width=1.5)


def legend(entries: Sequence[tuple[str, str]], point: str) -> Html:
    """Return coloured squares with their names, and the diamond with its."""
    parts, x = [], 4.0
    for name, colour in entries:
        parts += [_rectangle(x, 4, 12, 12, f"var(--{colour})"), mark_label(x + 18, 14, name)]
        x += len(name) * _CHARACTER + 40
    parts += [diamond(x + 6, 10), mark_label(x + 18, 14, point)]
    return _drawing("Legend", 20, parts)


def _drawing(description: str, height: float, parts: Sequence[Html]) -> Html:
    content = join((element("title", text(description)), *parts))
    return element("svg", content, role="img", viewBox=f"0 0 {_WIDTH} {height:.0f}")


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> Html:
    return element("rect", x=x, y=y, width=max(width, 0.0), height=height, fill=colour, rx=1.5)


def line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1.2) -> Html:
    """Return a straight line."""
    return element("line", x1=x0, y1=y0, x2=x1, y2=y1, stroke=colour, stroke_width=width)


def mark_label(x: float, y: float, value: str, class_: str = "", anchor: str = "start") -> Html:
    """Return text with its baseline at y."""
    return element("text", text(value), x=x, y=y, class_=class_, text_anchor=anchor)
