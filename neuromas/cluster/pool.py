"""RolloutPool: a RolloutClient over Ray actors that survives the death of any of them.

A batch is split into one part per worker. Every call of a rollout has a seed of its own that depends on the example
and not on the worker, so a part that is lost with its worker is rolled out again, anywhere, with the same result; a
part is counted once however often it was sent. A worker that comes back is given the current adapters before it gets
work. Health is RLlib's business: its FaultTolerantActorManager marks the dead, Ray starts their processes again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Protocol

import ray
from ray.exceptions import ActorDiedError, RayTaskError
from ray.rllib.utils.actor_manager import CallResult, FaultTolerantActorManager

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.cluster.actors import WorkerNotStartedError
from neuromas.cluster.failure import cause_of, first_line
from neuromas.errors import EngineError, NeuroMASError, RolloutError, RuntimeStartError
from neuromas.journal.events import Notice, Observer
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import Ticket
from neuromas.rollout.record import Group
from neuromas.rollout.stats import RolloutStats

_POLL_S = 0.25
"""Longest wait before lost workers are looked after; a finished batch is returned at once."""
_MAX_IN_FLIGHT = 64
_REVIVAL = "revival"


@dataclass(slots=True)
class _PoolBatch:
    """A share of a batch: which worker has it, since when, and its result once there is one."""

    tag: str
    batch: RolloutBatch
    worker: int | None = None
    sent_s: float = 0.0
    result: tuple[list[Group], RolloutStats] | None = None


class PublishedAdapters(Protocol):
    """Holds the adapters that every worker must have, for those that start anew."""

    def read(self) -> dict[AdapterRef, PlainLora]:
        """Return them."""

    def write(self, adapters: Mapping[AdapterRef, PlainLora]) -> None:
        """Replace them."""


class OwnAdapters:
    """Those of a pool that shares its workers with no other."""

    def __init__(self) -> None:
        self._adapters: dict[AdapterRef, PlainLora] = {}

    def read(self) -> dict[AdapterRef, PlainLora]:
        """Return the adapters."""
        return self._adapters

    def write(self, adapters: Mapping[AdapterRef, PlainLora]) -> None:
        """Replace the adapters."""
        self._adapters = dict(adapters)


class RolloutPool:
    """RolloutClient over rollout actors; used by one thread."""

    def __init__(
        self, actors: Sequence[Any], timeout_s: float, on_event: Observer, published: PublishedAdapters | None = None
    ) -> None:
        """Take over actors that have been started.

        Args:
            actors: handles of RolloutActors; Ray restarts their processes as often as their options say.
            timeout_s: longest time a part may take on a worker before that worker counts as hung.
            on_event: told of every lost and returned worker.
            published: shared with other pools over the same actors; None = this pool is alone.
        """
        self._manager = FaultTolerantActorManager(list(actors), max_remote_requests_in_flight_per_actor=_MAX_IN_FLIGHT)
        self._timeout_s = timeout_s
        self._on_event = on_event
        self._published = OwnAdapters() if published is None else published
        self._orders: dict[Ticket, list[_PoolBatch]] = {}
        self._num_tickets = 0
        self._out: set[int] = set()
        self._reviving: set[int] = set()
        self._alive_s = time.monotonic()
        self._last_loss = ""
        self._last_stats = RolloutStats()

    @property
    def last_stats(self) -> RolloutStats:
        """What the batch collected last cost, summed over the workers."""
        return self._last_stats

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Make adapter versions servable on every worker; see ``RolloutClient.publish``.

        A worker that dies meanwhile gets them when it is back.

        Raises:
            AdapterError: a worker refused a version.
            RuntimeStartError: no worker is left.
        """
        before = self._published.read()
        kept = {ref: lora for ref, lora in before.items() if ref not in set(retire)}
        self._published.write({**kept, **adapters})
        try:
            self._publish_to_all(adapters, retire)
        except NeuroMASError:
            self._published.write(before)
            raise

    def _publish_to_all(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef]) -> None:
        asked = set(self._manager.healthy_actor_ids())
        results = self._manager.foreach_actor(
            "publish",
            kwargs={"adapters": ray.put(dict(adapters)), "retire": tuple(retire)},
            timeout_seconds=self._timeout_s,
        )
        for result in results:
            asked.discard(result.actor_id)
            if not result.ok:
                self._lose(result.actor_id, result.get())
        for worker in asked:
            self._kill(worker, f"did not answer for {self._timeout_s:g} s")

    def submit(self, batch: RolloutBatch) -> Ticket:
        """Split a batch over the workers and return at once."""
        ticket = Ticket(self._num_tickets)
        self._num_tickets += 1
        shares = split(batch, max(1, self._manager.num_healthy_actors()))
        order = [_PoolBatch(f"{ticket.number}/{index}", share) for index, share in enumerate(shares)]
        self._orders[ticket] = order
        self._revive()
        self._send(order)
        return ticket

    def collect(self, ticket: Ticket) -> list[Group]:
        """Return the Groups of a batch, once, after replacing whatever was lost on the way.

        Raises:
            RolloutError: the ticket is unknown or was collected before.
            RuntimeStartError: no worker is left.
            NeuroMASError: what a worker raised.
        """
        if ticket not in self._orders:
            raise RolloutError(f"ticket {ticket.number} is unknown or was collected before")
        order = self._orders[ticket]
        while any(part.result is None for part in order):
            self._fetch(order)
            self._kill_hung(order)
            self._revive()
            self._send(order)
        del self._orders[ticket]
        results = [part.result for part in order if part.result is not None]
        self._last_stats = sum((stats for _, stats in results), RolloutStats())
        return [group for groups, _ in results for group in groups]

    def close(self) -> None:
        """End the actors. Safe to call twice."""
        self._manager.clear()

    def _send(self, order: list[_PoolBatch]) -> None:
        """Give each part that no healthy worker has to the healthy worker with the least to do."""
        healthy = self._manager.healthy_actor_ids()
        for part in order:
            if part.result is not None or part.worker in healthy or not healthy:
                continue
            part.worker = min(healthy, key=self._num_parts)
            part.sent_s = time.monotonic()
            self._manager.foreach_actor_async(
                "rollout", tag=part.tag, kwargs={"batch": part.batch}, remote_actor_ids=[part.worker]
            )

    def _num_parts(self, worker: int) -> int:
        parts = (part for order in self._orders.values() for part in order)
        return sum(part.worker == worker and part.result is None for part in parts)

    def _fetch(self, order: list[_PoolBatch]) -> None:
        """Take in what has arrived; waits until something may have changed, at most ``_POLL_S``."""
        parts = {part.tag: part for part in order if part.result is None and part.worker is not None}
        if not parts and not self._reviving:
            time.sleep(_POLL_S)
            return
        results = self._manager.fetch_ready_async_reqs(tags=[*parts, _REVIVAL], timeout_seconds=_POLL_S)
        for result in results:
            if result.tag == _REVIVAL:
                self._end_revival(result)
            elif not result.ok:
                self._lose(result.actor_id, result.get())
            elif (part := parts[result.tag]).result is None:
                part.result = result.get()

    def _lose(self, worker: int, error: Exception) -> None:
        """Take a worker out of service after an error; errors of the work itself are the caller's.

        Raises:
            NeuroMASError: the error does not come from the worker's death.
        """
        if isinstance(error, EngineError):
            self._kill(worker, str(error))
            return
        if isinstance(error, WorkerNotStartedError) or not isinstance(error, RayTaskError):
            self._take_out(worker, first_line(error))
            return
        self._free(worker)
        raise cause_of(error) from error

    def _kill(self, worker: int, reason: str) -> None:
        """End a worker's process, which Ray then starts anew."""
        ray.kill(self._manager.actors()[worker], no_restart=False)
        self._take_out(worker, reason)

    def _kill_hung(self, order: list[_PoolBatch]) -> None:
        healthy, now = self._manager.healthy_actor_ids(), time.monotonic()
        late = {part.worker for part in order if part.result is None and now - part.sent_s > self._timeout_s}
        for worker in late.intersection(healthy):
            if worker is not None:
                self._kill(worker, f"took more than runtime.rollout_timeout_s = {self._timeout_s:g} s")

    def _take_out(self, worker: int, reason: str) -> None:
        """Mark a worker as unfit for work and free what it had to do."""
        self._manager.set_actor_state(worker, healthy=False)
        self._free(worker)
        if worker not in self._out:
            self._out.add(worker)
            self._last_loss = reason
            self._notify(f"rollout worker {worker} was lost ({reason}); its work is done again", "warning")

    def _free(self, worker: int) -> None:
        """Forget that a worker has anything to do."""
        for part in (part for order in self._orders.values() for part in order):
            if part.worker == worker:
                part.worker = None

    def _revive(self) -> None:
        """Have lost workers load their engines again, without waiting.

        Raises:
            RuntimeStartError: all are gone for good, or none came back in time.
        """
        if self._manager.num_healthy_actors():
            self._alive_s = time.monotonic()
        workers = self._manager.actor_ids()
        if not workers or time.monotonic() - self._alive_s > self._timeout_s:
            raise RuntimeStartError(
                "no rollout worker is left: each died more often than runtime.max_restarts allows, or did not come "
                f"back within runtime.rollout_timeout_s = {self._timeout_s:g} s. The last was lost because: "
                f"{self._last_loss}"
            )
        lost = {worker for worker in workers if not self._manager.is_actor_healthy(worker)}
        for worker in sorted(lost - self._reviving):
            self._reviving.add(worker)
            self._manager.foreach_actor_async("start", tag=_REVIVAL, healthy_only=False, remote_actor_ids=[worker])

    def _end_revival(self, result: CallResult) -> None:
        """Put a worker back into service with the current adapters, or drop it for good."""
        worker = result.actor_id
        self._reviving.discard(worker)
        if result.ok:
            self._restore(worker)
        elif isinstance(error := result.get(), ActorDiedError | RayTaskError):
            self._last_loss = first_line(error)
            self._out.discard(worker)
            self._manager.remove_actor(worker)
            self._notify(f"rollout worker {worker} is gone for good: {self._last_loss}", "warning")

    def _restore(self, worker: int) -> None:
        results = self._manager.foreach_actor(
            "restore",
            kwargs={"adapters": ray.put(self._published.read())},
            healthy_only=False,
            remote_actor_ids=[worker],
            timeout_seconds=self._timeout_s,
        )
        for result in results:
            if not result.ok:
                self._lose(worker, result.get())
                return
            self._manager.set_actor_state(worker, healthy=True)
            self._out.discard(worker)
            self._alive_s = time.monotonic()
            self._notify(f"rollout worker {worker} is back", "info")

    def _notify(self, message: str, severity: Literal["info", "warning"]) -> None:
        self._on_event(Notice(message=message, severity=severity, source="pool"))


def split(batch: RolloutBatch, num_parts: int) -> list[RolloutBatch]:
    """Return the batch in at most ``num_parts`` contiguous parts whose sizes differ by at most one example."""
    total = len(batch.examples)
    count = max(1, min(num_parts, total))
    bounds = [total * index // count for index in range(count + 1)]
    return [replace(batch, examples=batch.examples[start:end]) for start, end in pairwise(bounds)]
