"""What Prometheus reads from the API: its own requests, and what the store says of runs and endpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.records.evaluation import EvaluationRecord, EvaluationState
from neuromas.services.records.run import RunRecord, RunState
from neuromas.services.store.base import Store
from neuromas.services.store.listing import all_of

FRESH_S: Final = 10.0
"""Seconds for which what was read from the store is told again instead of being read anew."""
_LATENCIES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STATES: Final = (
    (RunRecord, "neuromas_runs", tuple(RunState)),
    (EndpointRecord, "neuromas_endpoints", tuple(EndpointState)),
    (EvaluationRecord, "neuromas_evaluations", tuple(EvaluationState)),
)
# Metrics of a run's last step that are told by name, in Prometheus's words.
_STEP_GAUGES: Final = {
    "time/step_s": ("neuromas_run_step_seconds", "Duration of a running run's last step."),
    "rollout/reward_mean": ("neuromas_run_reward", "Mean reward of a running run's last step."),
    "rollout/calls": ("neuromas_run_engine_calls", "Calls that the engine had in its last step: its batch."),
}


@dataclass(slots=True)
class Instruments:
    """Counters of one application. Each application has a registry of its own, so that tests may make several."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    chat_seconds: Histogram = field(init=False)
    chat_tokens: Counter = field(init=False)
    followers: Gauge = field(init=False)
    _told: str = ""
    _told_s: float = 0.0

    def __post_init__(self) -> None:
        registry = self.registry
        self.requests = Counter(
            "neuromas_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "neuromas_request_seconds",
            "Time to the first byte of an answer.",
            ("method", "route"),
            buckets=_LATENCIES,
            registry=registry,
        )
        self.chat_seconds = Histogram(
            "neuromas_endpoint_seconds",
            "Time of a whole answer of an endpoint.",
            ("endpoint",),
            buckets=_LATENCIES,
            registry=registry,
        )
        self.chat_tokens = Counter(
            "neuromas_endpoint_tokens", "Tokens of an endpoint's answers.", ("endpoint", "kind"), registry=registry
        )
        self.followers = Gauge("neuromas_followers", "Open event streams and long polls.", registry=registry)

    async def exposition(self, store: Store) -> str:
        """Return everything in Prometheus's text format.

        Raises:
            StoreUnavailableError: what is in the store cannot be told now.
        """
        now = time.monotonic()
        if not self._told or now - self._told_s > FRESH_S:
            self._told, self._told_s = await _store_exposition(store), now
        return generate_latest(self.registry).decode() + self._told


async def _store_exposition(store: Store) -> str:
    registry = CollectorRegistry()
    for kind, name, states in _STATES:
        gauge = Gauge(name, f"Documents by state: {kind.noun}.", ("state",), registry=registry)
        for state, number in (await store.tally(kind, states)).items():
            gauge.labels(state).set(number)
    running = await all_of(store, RunRecord, state=RunState.RUNNING)
    _add_waits(registry, await all_of(store, RunRecord, state=RunState.QUEUED), running)
    _add_steps(registry, running)
    return generate_latest(registry).decode()


def _add_waits(registry: CollectorRegistry, queued: Iterable[RunRecord], running: Iterable[RunRecord]) -> None:
    oldest = Gauge(
        "neuromas_queue_oldest_seconds", "How long the run that waits longest has waited.", registry=registry
    )
    oldest.set(max((time.time() - run.created for run in queued), default=0.0))
    waited = Gauge("neuromas_run_wait_seconds", "How long a running run waited.", ("run",), registry=registry)
    for run in running:
        if run.started is not None:
            waited.labels(run.id).set(max(0.0, run.started - run.created))


def _add_steps(registry: CollectorRegistry, running: Iterable[RunRecord]) -> None:
    gauges = {key: Gauge(name, text, ("run",), registry=registry) for key, (name, text) in _STEP_GAUGES.items()}
    rate = Gauge("neuromas_run_tokens_per_second", "Tokens generated per second of step.", ("run",), registry=registry)
    for run in running:
        latest = run.latest or {}
        for key, gauge in gauges.items():
            if (value := latest.get(key)) is not None:
                gauge.labels(run.id).set(value)
        if seconds := latest.get("time/step_s"):
            rate.labels(run.id).set((latest.get("rollout/tokens") or 0.0) / seconds)
