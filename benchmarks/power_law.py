"""A power law through measured errors: least squares on logarithms, with the interval of its exponent. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PowerLaw:
    """``error = factor * numbers ** exponent``.

    Attributes:
        factor: the error at one number.
        exponent: the slope on logarithmic axes.
        low: lower end of the exponent's 95 % interval.
        high: its upper end.
    """

    factor: float
    exponent: float
    low: float
    high: float

    def at(self, numbers: float) -> float:
        """Return the error that the law gives."""
        return self.factor * math.exp(self.exponent * math.log(numbers))

    def __str__(self) -> str:
        return f"{self.exponent:.2f} ({self.low:.2f} to {self.high:.2f})"


def fit(points: Sequence[tuple[float, float]]) -> PowerLaw | None:
    """Return the law that is nearest in logarithms; None with fewer than three points or one size.

    The interval is Student's, of independent points with equal spread about the law: where the points bend it is too
    narrow.

    Args:
        points: (trained numbers, error), both positive.
    """
    xs, ys = [math.log(size) for size, _ in points], [math.log(error) for _, error in points]
    if len(set(xs)) < 2 or len(points) < 3:
        return None
    line, free = statistics.linear_regression(xs, ys), len(points) - 2
    left = sum((y - line.slope * x - line.intercept) ** 2 for x, y in zip(xs, ys, strict=True))
    width = sum((x - statistics.mean(xs)) ** 2 for x in xs)
    half = student(free) * math.sqrt(left / free / width)
    return PowerLaw(math.exp(line.intercept), line.slope, line.slope - half, line.slope + half)


def student(free: int) -> float:
    """Return the 97.5 % quantile of Student's distribution for some degrees of freedom, to 1e-9.

    Raises:
        ValueError: ``free`` is below 1.
    """
    if free < 1:
        raise ValueError(f"got {free} degrees of freedom; at least 1 is needed")
    low, high = 0.0, 16.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, free) < 0.95 else (low, middle)
    return (low + high) / 2


def _inside(bound: float, free: int) -> float:
    """Return the probability of -bound to bound (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(bound / math.sqrt(free))
    term = total = math.cos(angle) if free % 2 else 1.0
    for power in range(3 if free % 2 else 2, free - 1, 2):
        term *= (power - 1) / power * math.cos(angle) ** 2
        total += term
    if free == 1:
        return 2 * angle / math.pi
    return 2 / math.pi * (angle + math.sin(angle) * total) if free % 2 else math.sin(angle) * total
