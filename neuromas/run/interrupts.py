"""How signals meet a run: the first asks its stage to stop, and none breaks off the end of its processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_PATIENCE: Final = 2


@contextmanager
def stopped_by_signal(request_stop: Callable[[], None]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to stop; a second signal interrupts at once if one is SIGINT.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        # A thread that was busy for long handles both at once, and SIGINT first, whichever was sent first.
        if len(seen) > 1 and (number == signal.SIGINT or seen[:-1] == [signal.SIGINT]):
            raise KeyboardInterrupt
        request_stop()

    with _handled_by(handle):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let what ends other processes come to its own end: two SIGINT or SIGTERM do nothing, the third interrupts.

    Does nothing outside the main thread.
    """
    seen: list[int] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > _PATIENCE:
            raise KeyboardInterrupt

    with _handled_by(hear):
        yield


@contextmanager
def _handled_by(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
