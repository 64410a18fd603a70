"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from neuromas.training.statistics import wilson_interval


def count(value: float | None) -> str:
    """Return a count with a suffix from ten thousand on: 9,600, 76.8k, 3.2M; nothing for None."""
    if value is None:
        return ""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """Return a share with one decimal: 97.7 %."""
    return f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Return seconds below two minutes, else minutes or hours; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def proportion(correct: float, total: int, bootstrap: Sequence[float] | None = None) -> tuple[str, str, str]:
    """Return accuracy, its 95 % interval (Wilson's unless a bootstrap's ends are given) and the counts, as texts."""
    low, high = bootstrap or (wilson_interval(correct, total).low, wilson_interval(correct, total).high)
    return percent(correct / total), f"{percent(low)} to {percent(high)}", f"{correct:g} of {total}"
