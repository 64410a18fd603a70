"""Patience: how long the engine waits after answers for those who ask again at once.

A client that asks again when it has its answer would miss the step that begins right then, and its next answer would
take one step more. To wait for it costs those who are running. So the wait is at most what is gained by it: as many
seconds as a step takes, times the share of the requests that were just answered. Over the time of one answer that adds
up to one step at most, however long the answer is.
"""

from __future__ import annotations

_SMOOTHING = 0.1
_MEMORY = 0.75
"""How much of what was seen before counts beside what is seen now."""
_WORTHWHILE = 0.5
_TRY_EVERY = 16


class Patience:
    """Learns whether waiting pays: where those who were answered do not ask again in time, it hardly ever waits."""

    def __init__(self, steps: float) -> None:
        """Take how many mean steps the waits may cost while one answer is made; 0 = there are none."""
        self._steps = steps
        self._mean_step_s = 0.0
        self._answered = 0.0
        self._came_back = 0.0
        self._num_passed_over = 0

    def took(self, step_s: float) -> None:
        """Take the seconds of an engine step."""
        known = self._mean_step_s or step_s
        self._mean_step_s = known + _SMOOTHING * (step_s - known)

    def wait_s(self, num_answered: int, num_running: int) -> float:
        """Return how many seconds to wait for new requests, after a step that answered some and left some running."""
        if not num_answered or not self._is_worth_it():
            return 0.0
        return self._steps * self._mean_step_s * num_answered / (num_answered + num_running)

    def waited(self, num_answered: int, num_came: int) -> None:
        """Take how many requests came in time after so many were answered."""
        self._answered = _MEMORY * self._answered + num_answered
        self._came_back = _MEMORY * self._came_back + min(num_came, num_answered)

    def _is_worth_it(self) -> bool:
        if self._came_back >= _WORTHWHILE * self._answered:
            return True
        self._num_passed_over = (self._num_passed_over + 1) % _TRY_EVERY
        return not self._num_passed_over
