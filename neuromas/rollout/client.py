"""RolloutClient: what the learner knows of rollout workers, be they one object in its process or a pool of actors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import RolloutError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.record import Group
from neuromas.rollout.stats import RolloutStats
from neuromas.rollout.worker import RolloutWorker


@dataclass(frozen=True, slots=True)
class Ticket:
    """Stands for a submitted batch until its Groups are collected."""

    number: int


class RolloutClient(Protocol):
    """Publishes adapters to the workers and has batches rolled out.

    First in, first out: a batch is sampled with the versions published before it was submitted.
    """

    @property
    def last_stats(self) -> RolloutStats:
        """What the batch collected last cost, summed over the workers."""

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Make adapter versions servable on every worker, after forgetting the retired ones.

        Raises:
            AdapterError: see ``Engine.publish``.
        """

    def submit(self, batch: RolloutBatch) -> Ticket:
        """Begin a batch and return at once where the implementation can."""

    def collect(self, ticket: Ticket) -> list[Group]:
        """Wait for a batch and return its Groups in the order of its examples. A ticket is good once.

        Raises:
            RolloutError: the ticket is unknown or was collected before, or the workers were lost.
        """

    def close(self) -> None:
        """Release the workers. Safe to call twice."""


class LocalRolloutClient:
    """The client of one worker in this process; ``submit`` does the work and ``collect`` hands it over."""

    def __init__(self, worker: RolloutWorker) -> None:
        self._worker = worker
        self._finished: dict[Ticket, tuple[list[Group], RolloutStats]] = {}
        self._num_tickets = 0
        self._last_stats = RolloutStats()

    @property
    def last_stats(self) -> RolloutStats:
        """What the batch collected last cost."""
        return self._last_stats

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Make adapter versions servable; see ``RolloutClient.publish``."""
        self._worker.publish(adapters, retire)

    def submit(self, batch: RolloutBatch) -> Ticket:
        """Roll the batch out and return its ticket."""
        ticket = Ticket(self._num_tickets)
        self._num_tickets += 1
        groups = self._worker.rollout(batch)
        self._finished[ticket] = groups, self._worker.last_stats
        return ticket

    def collect(self, ticket: Ticket) -> list[Group]:
        """Return the Groups of a batch, once."""
        if ticket not in self._finished:
            raise RolloutError(f"ticket {ticket.number} is unknown or was collected before")
        groups, self._last_stats = self._finished.pop(ticket)
        return groups

    def close(self) -> None:
        """Stop the worker's engine."""
        self._worker.close()
