"""Keeps the process alive that deploys endpoints, while there are endpoints to care for: it is a Ray Job as runs are.

It works on the cluster, where Ray Serve is; the supervisor may be anywhere.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Final

from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.runs.jobs import Job, Jobs
from neuromas.services.store.base import Store
from neuromas.services.store.listing import all_of

logger = logging.getLogger(__name__)
PREFIX: Final = "serving-"
LEASE: Final = "serving"
"""Lease of the one process that deploys endpoints."""
_PAUSE_S: Final = 10.0
"""Seconds between the end of such a process and the next one."""


class EndpointKeeper:
    """One supervisor's eye on the process; remembers nothing."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs

    async def round(self) -> None:
        """Start the process where it is needed and there is none.

        Raises:
            StoreUnavailableError: the store is away.
            RayUnavailableError: Ray is away.
        """
        if not any(map(needs_care, await all_of(self._store, EndpointRecord))):
            return
        jobs = [job for id, job in (await self._jobs.list()).items() if id.startswith(PREFIX)]
        if any(not job.is_ended for job in jobs) or time.time() - _last_end(jobs) < _PAUSE_S:
            return
        for job in jobs:  # its process is gone, and with it who would give the lease back
            await self._store.release(LEASE, job.id)
        id = f"{PREFIX}{len(jobs)}"
        await self._jobs.submit(id, [sys.executable, "-m", "neuromas.services.runs.deployments", id])
        logger.info("submitted", extra={"job": id})


def needs_care(endpoint: EndpointRecord) -> bool:
    """Whether something is, or may have to be, done for an endpoint."""
    return endpoint.state != EndpointState.STOPPED if endpoint.wanted == "stop" else endpoint.is_up


def _last_end(jobs: Iterable[Job]) -> float:
    return max((job.ended_s or 0.0 for job in jobs), default=0.0)
