"""Line charts as data in the page. They are drawn by the script that draws the dashboard's, ``assets/chart.js``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Final, Literal

from neuromas.report.markup import Markup, element

Point = tuple[float, float]

_ASSETS: Final = files("neuromas.report").joinpath("assets")
_SCRIPTS: Final = ("dom.js", "format.js", "chart.js")
# Of modules that are joined into one: what they take from each other, and what they offer.
_IMPORT: Final = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ", re.MULTILINE)
_BEGIN: Final = """
for (const place of document.querySelectorAll("[data-chart]")) {
  const { options, series, marks } = JSON.parse(place.dataset.chart);
  const chart = new Chart({ ...options, format: { number, percent }[options.format] });
  chart.update(series, marks);
  place.replaceChildren(chart.element);
}
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of dots.

    Attributes:
        name: for the legend and the pointer; an unnamed one is left out of the legend.
        points: (x, y) in ascending x.
        style: "faint" a thin background line, "level" a dashed one, "line" a normal one, "thin" one of many, "dots" and
            "rings" marks without a line.
        color: any CSS colour; None takes the page's accent.
        smooth: whether the moving mean is drawn in place of the points, each stage's by itself.
        group: name of the series with which it is switched off and on; None = its own.
    """

    name: str
    points: Sequence[Point]
    style: Literal["faint", "level", "line", "thin", "dots", "rings"] = "line"
    color: str | None = None
    smooth: bool = False
    group: str | None = None


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
    height: int = 220,
    legend: bool = True,
    unit: Literal["number", "percent"] = "number",
) -> Markup:
    """Return the place of a chart of all series, or nothing when none has a point.

    Args:
        series: drawn in order, later ones on top; points that are not finite are left out.
        title: above the chart, and read out by screen readers.
        note: beside the title.
        x_label: below the horizontal axis.
        y_range: fixed vertical range; None fits the data and starts at 0 where all of it is positive.
        marks: vertical lines.
        height: in pixels.
        legend: whether series are named below the chart.
        unit: how values are written.
    """
    finite = [
        {**asdict(entry), "points": [point for point in entry.points if math.isfinite(point[1])]} for entry in series
    ]
    if not any(entry["points"] for entry in finite):
        return Markup("")
    options = {
        "title": title,
        "note": note,
        "xLabel": x_label,
        "yRange": y_range,
        "height": height,
        "legend": legend,
        "format": unit,
    }
    data = json.dumps({"options": options, "series": finite, "marks": [asdict(mark) for mark in marks]})
    return element(
        "div",
        element("p", element("strong", title), f" {note}"),
        element("noscript", element("p", "A script of this page draws the curve; its numbers are in metrics.jsonl.")),
        class_="chart-place",
        data_chart=data,
    )


def script() -> Markup:
    """Return the script that draws all charts of a page."""
    joined = "\n".join(_ASSETS.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return element("script", Markup(_EXPORT.sub("", _IMPORT.sub("", joined)) + _BEGIN), type="module")


def style() -> str:
    """Return the style sheet of charts."""
    return _ASSETS.joinpath("chart.css").read_text(encoding="utf-8")
