"""Line charts as inline SVG. Colours and text sizes come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neuromas.report.markup import Markup, element, join

Point = tuple[float, float]

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720.0, 52.0, 14.0, 14.0, 52.0
MAX_POINTS = 400
# Room for the text of a mark where it is largest, on phones.
MARK_CHARACTER, MARK_ROW = 11.0, 22.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of dots.

    Attributes:
        name: for the legend and the tooltip; an unnamed one is left out of the legend.
        points: (x, y) in ascending x.
        style: "faint" a thin background line, "level" a dashed one, "line" a normal one, "dots" and "rings" marks
            without a line.
        color: any CSS colour; None takes the chart's accent.
    """

    name: str
    points: Sequence[Point]
    style: Literal["faint", "level", "line", "dots", "rings"] = "line"
    color: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at ``x`` with a text beside its upper end."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps data to the coordinates of the drawing."""

    x_range: Point
    y_range: Point
    height: float

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "step",
    y_range: Point | None = None,
    marks: Sequence[Mark] = (),
    height: float = 260.0,
) -> Markup:
    """Return a chart of all series, or nothing when none has a point.

    Args:
        series: drawn in order, later ones on top.
        title: read out by screen readers.
        x_label: below the horizontal axis.
        y_range: fixed vertical range; None fits the data and starts at 0 where all of it is positive.
        marks: vertical lines.
        height: of the drawing, in units of which its width has 720.
    """
    points = [point for entry in series for point in entry.points if math.isfinite(point[1])]
    if not points:
        return Markup("")
    xs = [x for x, _ in points]
    frame = _Frame(_widened(min(xs), max(xs)), y_range or _fitted([y for _, y in points]), height)
    shapes = [
        _grid(frame, x_label),
        *_marks(frame, marks),
        *(_draw(frame, entry) for entry in series),
    ]
    return element(
        "svg", element("title", title), *shapes, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", class_="chart", role="img"
    )


def legend(series: Sequence[Series]) -> Markup:
    """Return the names of the series beside samples of their colours."""
    entries = (
        element("li", element("span", class_=f"key {entry.style}", style=_color(entry, "--key")), entry.name)
        for entry in series
        if entry.points and entry.name
    )
    return element("ul", entries, class_="legend")


def moving_mean(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Return the exponential moving mean, corrected for its start; ``weight`` is what a step leaves of the past."""
    means, total, norm = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        means.append(total / norm)
    return means


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most ``MAX_POINTS`` points: means over equal runs of neighbours."""
    size = math.ceil(len(points) / MAX_POINTS)
    if size <= 1:
        return list(points)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers between ``low`` and ``high``, about ``count`` of them."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _widened(low: float, high: float) -> Point:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _fitted(values: Sequence[float]) -> Point:
    low, high = min(values), max(values)
    low = min(low, 0.0) if low > -0.05 * abs(high) else low
    low, high = _widened(low, high)
    return low, high + 0.06 * (high - low)


def _grid(frame: _Frame, x_label: str) -> Markup:
    shapes: list[Markup] = []
    bottom = frame.height - BOTTOM
    for value in ticks(*frame.y_range, 4):
        y = frame.y(value)
        shapes.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        shapes.append(element("text", f"{value:g}", x=LEFT - 7, y=y, class_="tick end"))
    shapes += [
        element("text", f"{value:g}", x=frame.x(value), y=bottom + 16, class_="tick middle")
        for value in ticks(*frame.x_range, 6)
    ]
    shapes.append(element("text", x_label, x=WIDTH - RIGHT, y=frame.height - 5, class_="tick last"))
    return join(shapes)


def _marks(frame: _Frame, marks: Sequence[Mark]) -> list[Markup]:
    """Draw the marks; a text that would run into the one before stands a row lower."""
    drawn, row, end = [], 0, -math.inf
    for mark in marks:
        x = max(frame.x(mark.x), LEFT)
        row = row + 1 if x < end else 0
        end = x + MARK_CHARACTER * len(mark.label)
        line = element("line", x1=x, x2=x, y1=TOP, y2=frame.height - BOTTOM, class_="mark")
        text = element("text", mark.label, x=x + 5, y=TOP + 9 + MARK_ROW * (row % 3), class_="mark-label")
        drawn.append(join([line, text]))
    return drawn


def _draw(frame: _Frame, series: Series) -> Markup:
    places = [(frame.x(x), frame.y(y), y) for x, y in thinned(series.points) if math.isfinite(y)]
    color = _color(series, "--ink")
    if series.style in ("dots", "rings"):
        radius = 3.6 if series.style == "dots" else 4.6
        dots = (
            element("circle", element("title", f"{series.name}: {y:.3g}"), cx=px, cy=py, r=radius)
            for px, py, y in places
        )
        return element("g", dots, class_=series.style, style=color)
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in places)
    return element("polyline", element("title", series.name), points=path, class_=series.style, style=color)


def _color(series: Series, variable: str) -> str | None:
    return None if series.color is None else f"{variable}:{series.color}"
