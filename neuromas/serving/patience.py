"""Patience: how long the engine waits after answers for those who ask again at once.

A client that asks again when it has its answer would miss the step that begins right then, and its next answer would
take one step more. To wait for it costs those who are running. So the wait is at most what can be gained by it: as many
seconds as a step takes, times the share of the requests that were just answered. Over the time of one answer that adds
up to one step at most, however long the answer is.
"""

from __future__ import annotations

_SMOOTHING = 0.1
_MEMORY = 0.75
"""How much of what earlier waits brought counts beside what the last one brought."""
_TRY_AGAIN = 4
"""Where waits have cost more than they brought, one is tried after as many answers as this times those under way."""


class Patience:
    """Says how long to wait, and learns whether it pays; where it does not, there is hardly any waiting."""

    def __init__(self, steps: float) -> None:
        """Take how many mean steps the waits may last in all while one answer is made; 0 = there are none."""
        self._steps = steps
        self._mean_step_s = 0.0
        self._brought_s = 0.0
        self._passed_over = 0

    def took(self, step_s: float) -> None:
        """Take the seconds of an engine step."""
        known = self._mean_step_s or step_s
        self._mean_step_s = known + _SMOOTHING * (step_s - known)

    def wait_s(self, num_answered: int, num_running: int) -> float:
        """Return how many seconds to wait for new requests, after a step that answered some and left some running."""
        if not num_answered:
            return 0.0
        num_open = num_answered + num_running
        if self._brought_s < 0:
            self._passed_over += num_answered
            if self._passed_over < _TRY_AGAIN * num_open:
                return 0.0
        self._passed_over = 0
        return self._steps * self._mean_step_s * num_answered / num_open

    def waited(self, seconds: float, num_running: int, num_came: int) -> None:
        """Take how long a wait was, how many requests were running, and how many came in time for the next step.

        Each who came has gained a step; each who was running has lost the wait, and who came, half of it on average.
        """
        brought_s = num_came * self._mean_step_s - (num_running + num_came / 2) * seconds
        self._brought_s = _MEMORY * self._brought_s + brought_s
