"""A picture of error against trained numbers on logarithmic axes, with the fitted power laws, as SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.axes import Axes, colour, decades
from benchmarks.power_law import fit


def draw(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return the picture: a dot for each run, a line for each system's law, its slope and interval in the legend.

    Args:
        points: (trained numbers, error) of each run, by system; all positive.

    Raises:
        ValueError: there is no point.
    """
    every = [point for found in points.values() for point in found]
    if not every:
        raise ValueError("got no point to draw")
    axes = Axes(
        x=decades((size for size, _ in every), "{:,.0f}".format),
        y=decades((error for _, error in every), "{:g}".format),
        title="Error of sampled answers against trained numbers, graph and single node",
        below="trained numbers, all nodes",
    )
    marks: list[str] = []
    legend: list[str] = []
    for place, (name, found) in enumerate(points.items()):
        shade, law = colour(place), fit(found)
        marks.extend(
            f'<circle cx="{axes.across(size):.1f}" cy="{axes.up(error):.1f}" r="3" fill="{shade}"/>'
            for size, error in found
        )
        legend.append(name)
        if law is not None:
            ends = [min(size for size, _ in found), max(size for size, _ in found)]
            path = "L".join(f"{axes.across(size):.1f} {axes.up(law.at(size)):.1f}" for size in ends)
            marks.append(f'<path d="M{path}" stroke="{shade}" fill="none" stroke-width="2"/>')
            legend[-1] += f": {law}"
    return axes.picture(marks, legend)
