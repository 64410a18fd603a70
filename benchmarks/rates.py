"""Which learning rates an arm is tried at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RATES: Final = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""Learning rates, in order."""
FIRST_RATES: Final = (1e-2, 3e-2, 1e-1)


def next_rate(tried: Mapping[float, float]) -> float | None:
    """Return the learning rate to try next, None when the best one lies between two others that were tried.

    Args:
        tried: rate -> how well it did; of equal ones the one nearest the middle of ``RATES`` counts as the best.
    """
    for rate in FIRST_RATES:
        if rate not in tried:
            return rate
    place = RATES.index(best_rate(tried))
    for neighbour in (place - 1, place + 1):
        if 0 <= neighbour < len(RATES) and RATES[neighbour] not in tried:
            return RATES[neighbour]
    return None


def best_rate(tried: Mapping[float, float]) -> float:
    """Return the rate that did best; of equal ones that nearest the middle of ``RATES``."""
    return max(tried, key=lambda rate: (tried[rate], -abs(2 * RATES.index(rate) - len(RATES) + 1)))
