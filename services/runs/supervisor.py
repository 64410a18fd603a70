"""The supervisor: brings runs, evaluations and endpoints to what their records want. One works at a time, by a lease.

Started as ``python -m neuromas.services.runs.supervisor``. It may die at any moment: another one goes on from the store
and Ray.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from neuromas.services.children import PRIVATE_UMASK
from neuromas.services.logs import set_up_logging
from neuromas.services.records.run import RunRecord, RunState
from neuromas.services.runs.cluster import LOOK_S, ClusterWatch
from neuromas.services.runs.endpoints import EndpointKeeper
from neuromas.services.runs.evaluations import Evaluations
from neuromas.services.runs.jobs import Jobs, RayJobs, RayUnavailableError
from neuromas.services.runs.retention import Retention
from neuromas.services.runs.watch import RunWatch
from neuromas.services.settings import Settings, load_settings
from neuromas.services.store.base import Store, StoreUnavailableError, StoreUnusableError
from neuromas.services.store.listing import all_of
from neuromas.services.store.open import open_store

logger = logging.getLogger(__name__)
LEASE: Final = "supervisor"
RETENTION_S: Final = 60.0
"""Seconds between two looks for what is not kept any longer."""
WIND_DOWN_S: Final = 30.0
"""Longest time that runs have for their checkpoints when the service and its cluster go down."""


class Supervisor:
    """Does the rounds while it holds the lease."""

    def __init__(self, settings: Settings, store: Store, jobs: Jobs, alive: Path | None = None) -> None:
        self._alive = alive
        self._settings, self._store, self._jobs = settings, store, jobs
        self._name = f"supervisor-{secrets.token_hex(4)}"
        self._runs = RunWatch(store, jobs, settings)
        self._evaluations = Evaluations(store, jobs, settings)
        self._endpoints = EndpointKeeper(store, jobs)
        self._cluster = ClusterWatch(store, jobs)
        self._retention = Retention(store, settings)
        self._held_until = 0.0

    async def work(self) -> None:
        """Do the rounds until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold())
                group.create_task(self._repeat(self._work_round, self._settings.poll_s))
                group.create_task(self._repeat(self._cluster.round, LOOK_S))
                group.create_task(self._repeat(self._retention.round, RETENTION_S))
        finally:
            await self._release()

    async def wind_down(self) -> None:
        """Stop everything that is under way, for a cluster that goes down with the service; runs go on later.

        Raises:
            StoreUnavailableError: the store is away.
            RayUnavailableError: Ray is away.
        """
        deadline = time.monotonic() + WIND_DOWN_S
        for job in (await self._jobs.list()).values():
            if not job.is_ended:
                await self._jobs.stop(job.id)
        while await all_of(self._store, RunRecord, state=RunState.RUNNING) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)

    async def _hold(self) -> None:
        """Keep the lease, or wait for it."""
        ttl_s = self._settings.lease_s
        while True:
            if self._alive is not None:
                self._alive.touch()
            asked = time.monotonic()
            try:
                is_ours = await self._store.acquire(LEASE, self._name, ttl_s)
            except StoreUnavailableError:
                is_ours = False  # not known; what is left of the time is used
            else:
                if not is_ours:
                    self._held_until = 0.0
            if is_ours:
                if self._held_until == 0.0:
                    logger.info("working", extra={"supervisor": self._name})
                self._held_until = asked + ttl_s
            await asyncio.sleep(ttl_s / 3)

    async def _release(self) -> None:
        try:
            await self._store.release(LEASE, self._name)
        except StoreUnavailableError:
            return  # it expires by itself

    async def _work_round(self) -> None:
        room = self._settings.max_running
        running = await self._runs.look()
        # Evaluations are short: one that waits gets the next free place.
        evaluating = await self._evaluations.round(room - running)
        await self._runs.start(room - evaluating)
        await self._endpoints.round()

    async def _repeat(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        away = False
        while True:
            if time.monotonic() < self._held_until:
                try:
                    await work()
                except (StoreUnavailableError, RayUnavailableError) as error:
                    if not away:
                        logger.warning("waiting", extra={"reason": str(error)})
                    away = True
                    self._runs.outage()
                except Exception:  # the supervisor's boundary: one bad record must not end the care for the others
                    logger.exception("a round crashed")
                else:
                    away = False
            await asyncio.sleep(every_s)


async def supervise(settings: Settings, *, owns_cluster: bool, alive: Path | None = None) -> None:
    """Work until SIGTERM or SIGINT.

    Args:
        settings: of the service.
        alive: file that is touched every few seconds, for whoever looks whether this process hangs; None = none.
        owns_cluster: whether the cluster goes down with this process; then runs are asked for checkpoints first.
    """
    store = open_store(settings)
    with suppress(StoreUnavailableError):  # its rounds wait for it
        await store.check()
    supervisor = Supervisor(settings, store, RayJobs(settings.ray_address), alive)
    working = asyncio.create_task(supervisor.work())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await working
        if owns_cluster:
            await supervisor.wind_down()
    except (StoreUnavailableError, RayUnavailableError) as error:
        logger.warning("runs were not asked for checkpoints", extra={"reason": str(error)})
    finally:
        await store.close()


def main() -> None:
    """Run the supervisor of this process's settings."""
    parser = argparse.ArgumentParser(prog="python -m neuromas.services.runs.supervisor", description=__doc__)
    parser.add_argument("--owns-cluster", action="store_true", help="stop all runs with a checkpoint at the end")
    parser.add_argument("--alive", type=Path, metavar="FILE", help="touch this file every few seconds")
    arguments = parser.parse_args()
    os.umask(PRIVATE_UMASK)
    settings = load_settings()
    set_up_logging(settings.log_level, settings.log_format)
    try:
        asyncio.run(supervise(settings, owns_cluster=arguments.owns_cluster, alive=arguments.alive))
    except StoreUnusableError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
