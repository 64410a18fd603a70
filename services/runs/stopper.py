"""Stopper: brings a request to stop into the thread that trains, by the signals that ``run`` understands anyway."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Final, Self

from neuromas.services.records.run import Wanted

CANCEL_GRACE_S: Final = 10.0
"""Seconds that a cancelled run has for the step it is in; then the step is broken off."""


class RunStoppedError(KeyboardInterrupt):
    """The driver was asked to stop while the run has no step to finish first: it starts, or evaluates."""


class Stopper:
    """Context of the main thread in which ``stop``, SIGTERM and SIGINT end the work.

    While a stage trains, ``run`` catches the first signal itself and writes a checkpoint after the current step; at
    any other time the signal raises RunStoppedError, and nothing is lost by that. A second one breaks a step off.
    """

    def __init__(self) -> None:
        self._is_active = False
        self._thread_id = 0
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        self._thread_id, self._is_active = threading.get_ident(), True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_active = False
        if self._timer is not None:
            self._timer.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what is left is telling the store, which nobody should break off

    def stop(self, wanted: Wanted) -> None:
        """Ask for an end, from any thread; a cancelled run has some seconds for its step."""
        self._send(signal.SIGTERM)
        if wanted == Wanted.CANCEL and self._timer is None:
            self._timer = threading.Timer(CANCEL_GRACE_S, self._send, [signal.SIGINT])
            self._timer.daemon = True
            self._timer.start()

    def _send(self, number: signal.Signals) -> None:
        if self._is_active:  # sent to the thread itself: a signal that another one receives does not end its waiting
            signal.pthread_kill(self._thread_id, number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_active:
            raise RunStoppedError(f"stopped by {signal.Signals(number).name}")
