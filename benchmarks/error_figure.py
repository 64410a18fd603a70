"""A picture of error against trained numbers on logarithmic axes, with the fitted power laws, as SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.axes import Axes, colour, decades
from benchmarks.power_law import PowerLaw, fit


def draw(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return the picture: a dot for each run, a line for each system's law, its slope and interval in the legend.

    Args:
        points: (trained numbers, error) of each run, by system; all positive.

    Raises:
        ValueError: there is no point.
    """
    laws = {name: fit(found) for name, found in points.items()}
    lines = {name: _ends(law, points[name]) for name, law in laws.items() if law is not None}
    every = [point for found in (*points.values(), *lines.values()) for point in found]
    if not every:
        raise ValueError("got no point to draw")
    axes = Axes(
        x=decades((size for size, _ in every), "{:,.0f}".format),
        y=decades((error for _, error in every), "{:g}".format),
        title="Error of sampled answers against trained numbers, graph and single node",
        below="trained numbers, all nodes",
    )
    marks: list[str] = []
    for place, (name, found) in enumerate(points.items()):
        for size, error in found:
            middle = f'cx="{axes.across(size):.1f}" cy="{axes.up(error):.1f}"'
            marks.append(f'<circle {middle} r="3" fill="{colour(place)}"/>')
        if name in lines:
            path = "L".join(f"{axes.across(size):.1f} {axes.up(error):.1f}" for size, error in lines[name])
            marks.append(f'<path d="M{path}" stroke="{colour(place)}" fill="none" stroke-width="2"/>')
    legend = (name if law is None else f"{name}: {law}" for name, law in laws.items())
    return axes.picture(marks, legend)


def _ends(law: PowerLaw, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the law at the smallest and the largest of the points."""
    sizes = [size for size, _ in points]
    return [(size, law.at(size)) for size in (min(sizes), max(sizes))]
