"""How much a server takes on, and how much it has to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from neuromas.rollout.record import Rollout

_MAX_RETRY_AFTER_S = 60
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much a server takes on.

    Attributes:
        max_running: requests in the engine at a time.
        max_waiting: requests that wait for their turn beside them; more are refused.
        deadline_s: longest time from a request's arrival to the end of its answer, seconds.
        drain_s: how long a server that is closing waits for requests under way, seconds.
    """

    max_running: int = 128
    max_waiting: int = 256
    deadline_s: float = 120.0
    drain_s: float = 30.0

    @property
    def max_open(self) -> int:
        """Requests that are running or waiting."""
        return self.max_running + self.max_waiting


@dataclass(frozen=True, slots=True)
class Load:
    """What a server has to do and has done since its start; tokens are those of all Nodes."""

    running: int = 0
    waiting: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    mean_latency_s: float = 0.0

    def retry_after_s(self, limits: ServerLimits) -> int:
        """Return in how many whole seconds about half of those who are here now will have had their turn."""
        rounds = (self.running + self.waiting) / (2 * limits.max_running)
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(rounds * self.mean_latency_s)))

    def with_answer(self, rollout: Rollout, latency_s: float) -> Load:
        """Return the load after one more answer."""
        if rollout.failure is not None:
            return replace(self, failed=self.failed + 1)
        mean = latency_s if not self.answered else (1 - _SMOOTHING) * self.mean_latency_s + _SMOOTHING * latency_s
        return replace(
            self,
            answered=self.answered + 1,
            prompt_tokens=self.prompt_tokens + sum(len(call.prompt_token_ids) for call in rollout.calls),
            completion_tokens=self.completion_tokens + sum(len(call.completion_token_ids) for call in rollout.calls),
            mean_latency_s=mean,
        )
