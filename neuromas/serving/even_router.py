"""EvenRouter: questions for all replicas alike, wherever they stand."""

from __future__ import annotations

import random

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica
from typing_extensions import override


class EvenRouter(FIFOMixin, RequestRouter):  # type: ignore[misc]
    """The less busy one of two replicas that are drawn among all.

    Ray's own router does the same, but asks replicas of its own machine alone until they are full, and Serve's proxy
    may be on one machine: the engines of the others would stand idle.
    """

    @override
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        if pending_request is not None:  # Ray would try again without a pause
            pending_request.routing_context.should_backoff = True
        return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
