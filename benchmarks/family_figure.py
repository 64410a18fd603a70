"""A picture of accuracy against trained numbers, one line a family, as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 380, 56, 130, 16, 44
_COLOURS: Final = ("#4269d0", "#d97706", "#c0392b", "#3ca951", "#7c5cd6", "#0e8a9a", "#6b7280")
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#444}.grid{stroke:#8884;fill:none}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
)


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
    sizes = [point[0] for line in lines for point in line.points]
    low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    high = max(high, low + 1)

    def across(size: float) -> float:
        return _LEFT + (math.log10(size) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>Sampled accuracy against trained numbers, by family of adapters</title>",
        f"<style>{_STYLE}</style>",
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="grid" d="M{_LEFT} {up(share):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{up(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for power in range(low, high + 1):
        x = across(10**power)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{10**power:,}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">trained numbers, all nodes</text>')
    for place, line in enumerate(lines):
        colour = _COLOURS[place % len(_COLOURS)]
        path = "L".join(f"{across(size):.1f} {up(mean):.1f}" for size, mean, _, _ in line.points)
        parts.append(f'<g stroke="{colour}" fill="none" stroke-width="2"><path d="M{path}"/>')
        for size, mean, least, most in line.points:
            x = across(size)
            parts.append(f'<path d="M{x:.1f} {up(least):.1f}V{up(most):.1f}" stroke-opacity=".4"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{up(mean):.1f}" r="3" fill="{colour}"/>')
        parts.append("</g>")
        y = _TOP + 12 + 20 * place
        parts.append(f'<circle cx="{_WIDTH - _RIGHT + 18}" cy="{y - 4}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 28}" y="{y}">{line.name}</text>')
    return "".join([*parts, "</svg>"])
