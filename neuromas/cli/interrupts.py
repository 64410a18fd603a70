"""What Ctrl-C, ``kill`` and a closed terminal do to a command: it is interrupted once, and then cleans up in peace."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE: Final = b"ending, cleaning up first; Ctrl-C once more breaks that off\n"


class Interrupts:
    """Raises KeyboardInterrupt for the first signal, and from the third on; the second hears that the end is near."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._count += 1
        if self._count != 2:
            raise KeyboardInterrupt
        with suppress(OSError):  # the terminal may be gone
            os.write(2, _PATIENCE)  # Python's own stream may be in the midst of a line

    @contextmanager
    def prevailing(self) -> Iterator[None]:
        """Raise KeyboardInterrupt for whatever error leaves this after a signal.

        Libraries replace an interrupt that reaches them: torch takes one for a value without a shape (ValueError).
        """
        try:
            yield
        except Exception as error:
            if not self._count:
                raise
            raise KeyboardInterrupt from error


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Interrupt what is done here by the first signal; those that this process was started to ignore stay ignored.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    handler = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = [number for number, was in before.items() if was is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number in heard:
            signal.signal(number, before[number])


def ignore_interrupts() -> None:
    """Let Ctrl-C not break off the interpreter while it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
