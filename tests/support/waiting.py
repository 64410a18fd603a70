"""Waits for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE_S = 0.005


def until(is_so: Callable[[], object], tell: Callable[[], object] = str, within_s: float = 60) -> None:
    """Return when something is so; fails after ``within_s`` seconds, with what ``tell`` returns."""
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end, f"not so within {within_s:g} s: {tell()}"
        time.sleep(PAUSE_S)
