"""Whether the cluster lives, told to the store: the API, which does not speak with Ray, says so to whoever asks."""

from __future__ import annotations

import time
from typing import Final

from neuromas.services.records.cluster import ClusterRecord, ClusterUpdate
from neuromas.services.records.endpoint import EndpointRecord, EndpointState, EndpointUpdate
from neuromas.services.runs.jobs import Jobs, RayUnavailableError
from neuromas.services.store.base import ConflictError, MissingError, Store
from neuromas.services.store.listing import all_of

LOOK_S: Final = 2.0
"""Seconds between two looks."""
TELL_S: Final = 5.0
"""Seconds after which the same is told again, so that it is known to be so still."""
UNCONFIRMED_S: Final = 30.0
"""Seconds that an endpoint stays ready without anybody's word for it."""


class ClusterWatch:
    """One supervisor's eye on the cluster as a whole."""

    def __init__(self, store: Store, jobs: Jobs, unconfirmed_s: float = UNCONFIRMED_S) -> None:
        self._store, self._jobs, self._unconfirmed_s = store, jobs, unconfirmed_s
        self._told: tuple[str, float] = ("", 0.0)
        self._good_s = time.monotonic()

    async def round(self) -> None:
        """Look once, and tell.

        Raises:
            StoreUnavailableError: the store is away.
        """
        try:
            fault = "" if await self._jobs.num_nodes() else "none of its nodes is alive"
        except RayUnavailableError:
            fault = "unreachable"
        now = time.monotonic()
        if not fault:
            self._good_s = now
        if fault != self._told[0] or now - self._told[1] > TELL_S:
            await tell_cluster(self._store, fault)
            self._told = fault, now
        if now - self._good_s > self._unconfirmed_s:
            await unconfirm(self._store)


async def tell_cluster(store: Store, fault: str) -> None:
    """Write what is known of the cluster; an empty fault = it lives."""
    record, is_new = await store.create(ClusterRecord(fault=fault, seen=time.time()))
    if not is_new:
        update: ClusterUpdate = {"fault": fault, "seen": time.time()}
        await store.update(ClusterRecord, record.id, update)


async def unconfirm(store: Store) -> None:
    """Take back that endpoints are ready; whoever deploys them says it again once they are."""
    for endpoint in await all_of(store, EndpointRecord, state=EndpointState.READY):
        update: EndpointUpdate = {"state": EndpointState.DEPLOYING, "served": None}
        try:
            await store.update(EndpointRecord, endpoint.id, update, version=endpoint.version)
        except (ConflictError, MissingError):
            continue  # somebody has just said something else of it
