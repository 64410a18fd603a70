"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neuromas.training.statistics import wilson_interval

REWARD_STEPS: Final = 5
"""Steps whose mean reward is a run's, wherever one figure is shown."""


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


def change(value: float) -> str:
    """Return a change of a share in points: +12.5."""
    return f"{100 * value:+.1f}"


def chance(p_value: float) -> str:
    """Return a p-value with two digits: 0.013; below a millionth it is only said to be so."""
    return "<1e-6" if p_value < 1e-6 else f"{p_value:.2g}"


def share(figure: Mapping[str, Any]) -> str:
    """Return a figure of ``result.json``: 97.7 % (95 % interval 96.0 % to 98.7 %, 512 questions)."""
    method = "95 % bootstrap interval" if figure.get("interval") == "bootstrap" else "95 % interval"
    notes = [f"{method} {percent(figure['low'])} to {percent(figure['high'])}", f"{figure['examples']:,} questions"]
    if figure.get("unasked"):
        notes.append(f"{figure['unasked']:,} more could not be asked")
    return f"{percent(figure['value'])} ({', '.join(notes)})"


def clock(seconds: float) -> str:
    """Return a time as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
