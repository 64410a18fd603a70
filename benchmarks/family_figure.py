"""A picture of accuracy against trained numbers, one line a family, as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.axes import SHARES, Axes, colour, decades


@dataclass(frozen=True)
class RateSeries:
    """A line.

    Attributes:
        name: of the family.
        points: (trained numbers, mean, lowest, highest) in order of the numbers; shares of 1.
    """

    name: str
    points: tuple[tuple[int, float, float, float], ...]


def draw(series: Iterable[RateSeries]) -> str:
    """Return the picture; the numbers are on a logarithmic axis.

    Raises:
        ValueError: there is no line.
    """
    lines = list(series)
    if not lines:
        raise ValueError("got no line to draw")
    axes = Axes(
        x=decades((point[0] for line in lines for point in line.points), "{:,.0f}".format),
        y=SHARES,
        title="Sampled accuracy against trained numbers, by family of adapters",
        below="trained numbers, all nodes",
    )
    marks = (_line(axes, line, colour(place)) for place, line in enumerate(lines))
    return axes.picture(marks, (line.name for line in lines))


def _line(axes: Axes, line: RateSeries, shade: str) -> str:
    path = "L".join(f"{axes.across(size):.1f} {axes.up(mean):.1f}" for size, mean, _, _ in line.points)
    parts = [f'<g stroke="{shade}" fill="none" stroke-width="2"><path d="M{path}"/>']
    for size, mean, least, most in line.points:
        x = axes.across(size)
        parts.append(f'<path d="M{x:.1f} {axes.up(least):.1f}V{axes.up(most):.1f}" stroke-opacity=".4"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{axes.up(mean):.1f}" r="3" fill="{shade}"/>')
    return "".join([*parts, "</g>"])
