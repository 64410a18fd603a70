"""The frame of a picture of the evidence: two axes, each linear or logarithmic, as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 56, 230, 16, 44
COLOURS: Final = (
    "#4269d0",
    "#d97706",
    "#c0392b",
    "#3ca951",
    "#7c5cd6",
    "#0e8a9a",
    "#6b7280",
    "#b5548f",
    "#8a6d3b",
)
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#444}.grid{stroke:#8884;fill:none}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
)


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        low: value at its beginning.
        high: value at its end.
        ticks: values that are named.
        name: text of a tick.
        logarithmic: whether equal factors are equally long.
    """

    low: float
    high: float
    ticks: Sequence[float]
    name: Callable[[float], str]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies: 0 at the beginning, 1 at the end."""
        if self.logarithmic:
            return math.log10(value / self.low) / math.log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def decades(values: Iterable[float], name: Callable[[float], str]) -> Axis:
    """Return the logarithmic axis of whole powers of ten around some positive values."""
    found = sorted(values)
    low, high = math.floor(math.log10(found[0])), math.ceil(math.log10(found[-1]))
    high = max(high, low + 1)
    return Axis(10.0**low, 10.0**high, [10.0**power for power in range(low, high + 1)], name, logarithmic=True)


SHARES: Final = Axis(0, 1, (0, 0.25, 0.5, 0.75, 1), "{:.0%}".format)
"""The axis of shares of 1."""


@dataclass(frozen=True)
class Axes:
    """Two axes and what is written around them.

    Attributes:
        x: the lower axis.
        y: the left axis.
        title: what the picture shows.
        below: name of the lower axis.
    """

    x: Axis
    y: Axis
    title: str
    below: str

    def across(self, value: float) -> float:
        """Return the place of a value of the lower axis."""
        return LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        """Return the place of a value of the left axis."""
        return HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)

    def picture(self, marks: Iterable[str], legend: Iterable[str]) -> str:
        """Return the picture: what is drawn, over the grid, and one legend entry for each colour in order."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{self.title}</title>",
            f"<style>{_STYLE}</style>",
        ]
        for value in self.y.ticks:
            y = self.up(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{self.y.name(value)}</text>')
        for value in self.x.ticks:
            x = self.across(value)
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{self.x.name(value)}</text>'
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{self.below}</text>')
        parts.extend(marks)
        for place, name in enumerate(legend):
            y = TOP + 12 + 20 * place
            parts.append(f'<circle cx="{WIDTH - RIGHT + 18}" cy="{y - 4}" r="4" fill="{colour(place)}"/>')
            parts.append(f'<text x="{WIDTH - RIGHT + 28}" y="{y}">{name}</text>')
        return "".join([*parts, "</svg>"])


def colour(place: int) -> str:
    """Return the colour of the line at a place."""
    return COLOURS[place % len(COLOURS)]
