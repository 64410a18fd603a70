"""Line charts as data: the page's script draws them (``assets/chart.js``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neuromas.report.markup import Markup, element

Point = tuple[float, float]

MAX_POINTS = 2000


@dataclass(frozen=True, slots=True)
class Mean:
    """The moving mean of a series.

    Attributes:
        name: for the legend.
        starts: x after which it begins anew.
        only: whether it is drawn without the series itself.
    """

    name: str
    starts: Sequence[float] = (0.0,)
    only: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of dots.

    Attributes:
        name: for the legend and the values under the pointer; series of one name are shown and hidden together.
        points: (x, y) in ascending x.
        style: "faint" and "thin" lines, "level" a dashed one, "line" a normal one, "dots" and "rings" marks without a
            line.
        color: any CSS colour; None takes the chart's accent.
        rank: place among so many nodes or systems, of which each has a colour of its own; instead of a colour.
        mean: is drawn too.
    """

    name: str
    points: Sequence[Point]
    style: Literal["faint", "thin", "level", "line", "dots", "rings"] = "line"
    color: str | None = None
    mean: Mean | None = None
    rank: tuple[int, int] | None = None

    def document(self) -> dict[str, Any]:
        """Return it as the script reads it: finite values, to five digits."""
        found: dict[str, Any] = {"name": self.name, "style": self.style, "color": self.color}
        found["points"] = [(float(x), float(f"{y:.5g}")) for x, y in thinned(self.points)]
        if self.rank is not None:
            found["rank"] = list(self.rank)
        if self.mean is not None:
            found["mean"] = {"name": self.mean.name, "starts": list(self.mean.starts), "only": self.mean.only}
        return found


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at ``x`` with a text beside its upper end."""

    x: float
    label: str


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    note: str = "",
    x_label: str = "step",
    y_range: Point | None = None,
    marks: Sequence[Mark] = (),
    height: int = 260,
    form: Literal["number", "percent"] = "number",
    tools: bool = False,
) -> Markup:
    """Return a chart of all series, or nothing when none has a point.

    Args:
        series: drawn in order, later ones on top.
        title: stands above it, and is read out by screen readers.
        note: stands beside the title.
        x_label: below the horizontal axis.
        y_range: fixed vertical range; None fits the data and starts at 0 where all of it is positive.
        marks: vertical lines.
        height: in pixels.
        form: how values are written.
        tools: whether smoothing, zoom and CSV are offered.
    """
    drawn_series = [document for entry in series if (document := entry.document())["points"]]
    if not drawn_series:
        return Markup("")
    return drawn(
        "chart",
        {
            "title": title,
            "note": note,
            "xLabel": x_label,
            "yRange": y_range,
            "height": height,
            "format": form,
            "tools": tools,
            "series": drawn_series,
            "marks": [{"x": mark.x, "label": mark.label} for mark in marks],
        },
    )


def drawn(
    kind: Literal["analysis", "chart", "diagnosis", "graph", "questions", "rollouts"], document: Mapping[str, Any]
) -> Markup:
    """Return a place that the page's script fills with the drawing of a document."""
    # JSON has no use for "<" outside of strings, and without it no text can end the element.
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return element("div", element("script", Markup(text), type="application/json"), class_="drawn", data_kind=kind)


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return the finite ones of some points, at most ``MAX_POINTS``: means over equal runs of neighbours."""
    finite = [point for point in points if math.isfinite(point[1])]
    size = math.ceil(len(finite) / MAX_POINTS)
    if size <= 1:
        return finite
    runs = [finite[start : start + size] for start in range(0, len(finite), size)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
