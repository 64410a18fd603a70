"""Brings endpoint records to Ray Serve and its word back: ``python -m neuromas.services.runs.deployments JOB``.

What is deployed outlives this process. Another one reads records and Serve anew and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol
from urllib.parse import urlsplit

from neuromas.errors import NeuroMASError, RuntimeStartError
from neuromas.services.children import PRIVATE_UMASK
from neuromas.services.logs import set_up_logging
from neuromas.services.records.endpoint import EndpointRecord, EndpointState, EndpointUpdate
from neuromas.services.records.failure import Failure
from neuromas.services.runs.cluster import UNCONFIRMED_S, unconfirm
from neuromas.services.runs.endpoints import LEASE, needs_care
from neuromas.services.runs.heartbeat import persistently
from neuromas.services.runs.lineage import checkpoint_folder
from neuromas.services.serve_token import serve_token
from neuromas.services.settings import Settings, load_settings
from neuromas.services.store.base import ConflictError, MissingError, Store, StoreUnavailableError
from neuromas.services.store.listing import all_of
from neuromas.services.store.open import open_store
from neuromas.serving.deployment_status import GroupStatus
from neuromas.serving.group import EngineGroup, GraphSource
from neuromas.serving.load import ServerLimits

logger = logging.getLogger(__name__)
ROUND_S: Final = 0.5
IDLE_S: Final = 30.0
"""Seconds without an endpoint to care for after which the process ends."""
_DEPLOYING: Final[EndpointUpdate] = {"state": EndpointState.DEPLOYING, "served": None}
_TRIES: Final = 10
"""Rounds in which Serve cannot be reached, one after the other, before the process ends and another begins."""


class Deployer(Protocol):
    """What is needed of ``neuromas.serving.deploy``; every method blocks and may raise RuntimeStartError."""

    def deploy(self, groups: Sequence[EngineGroup]) -> None:
        """Bring the applications of these groups to what they say."""

    def status(self) -> dict[str, GroupStatus]:
        """Return the state of every application by name."""

    def stop(self, name: str) -> None:
        """Take an application away."""


class Grouping(Protocol):
    """Puts graphs together that can share an engine; see ``neuromas.serving.endpoint.group_graphs``."""

    def __call__(
        self, wanted: Sequence[GraphSource], *, replicas: Mapping[str, tuple[int, int]], limits: ServerLimits
    ) -> tuple[EngineGroup, ...]:
        """Return the groups; raises NeuroMASError where a checkpoint cannot be read."""


@dataclass(slots=True)
class _Plan:
    """What endpoints want, and the groups that it makes."""

    wanted: tuple[object, ...] = ()
    groups: tuple[EngineGroup, ...] = ()
    of_graph: dict[str, EngineGroup] = field(default_factory=dict)


class Deployments:
    """One round after the other over all endpoints. Used by one task."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        deployer: Deployer,
        grouping: Grouping,
        unconfirmed_s: float = UNCONFIRMED_S,
    ) -> None:
        self._store, self._settings = store, settings
        self._deployer, self._grouping, self._unconfirmed_s = deployer, grouping, unconfirmed_s
        self._plan = _Plan()
        self._good_s: dict[str, float] = {}

    async def round(self) -> bool:
        """Bring Serve to what the records want, and the records to what Serve says.

        Returns:
            Whether there is any endpoint to care for.

        Raises:
            StoreUnavailableError: the store is away.
            RuntimeStartError: Serve cannot be reached.
        """
        endpoints = [one for one in await all_of(self._store, EndpointRecord) if needs_care(one)]
        wanted = [one for one in endpoints if one.wanted == "run"]
        await self._replan(wanted)
        status = await asyncio.to_thread(self._deployer.status)
        missing = [group for group in self._plan.groups if group.name not in status]
        if missing:  # Serve was started anew, or its application was taken away by somebody
            await asyncio.to_thread(self._deployer.deploy, missing)
        for name in status.keys() - {group.name for group in self._plan.groups}:
            if status[name].state != "deleting":
                await asyncio.to_thread(self._deployer.stop, name)
        for endpoint in endpoints:
            await self._tell(endpoint, status)
        return bool(endpoints)

    async def _replan(self, endpoints: list[EndpointRecord]) -> None:
        """Deploy anew where what is wanted has changed."""
        wanted = tuple(
            (one.name, one.checkpoint, one.generation, one.replicas, one.max_replicas)
            for one in sorted(endpoints, key=lambda one: one.name)
        )
        if wanted == self._plan.wanted:
            return
        sources, replicas = [], {}
        for endpoint in endpoints:
            source = await self._source(endpoint)
            if source is not None:
                sources.append(source)
                replicas[source.name] = (endpoint.replicas, endpoint.max_replicas)
        limits = ServerLimits(max_waiting=self._settings.serving_queue, deadline_s=self._settings.chat_timeout_s)
        found = await asyncio.to_thread(self._grouping, sources, replicas=replicas, limits=limits)
        groups = tuple(map(self._fitted, found))
        if groups:
            await asyncio.to_thread(self._deployer.deploy, groups)
        self._plan = _Plan(wanted, groups, {source.name: group for group in groups for source in group.graphs})

    async def _source(self, endpoint: EndpointRecord) -> GraphSource | None:
        """Return where an endpoint's graph comes from; one whose checkpoint cannot be used fails by itself."""
        try:
            folder = await checkpoint_folder(self._store, self._settings.data_dir, endpoint.checkpoint)
            source = GraphSource(endpoint.name, str(folder), endpoint.checkpoint, endpoint.generation)
            await asyncio.to_thread(self._grouping, [source], replicas={}, limits=ServerLimits())
        except StoreUnavailableError:
            raise
        except NeuroMASError as error:
            await self._fail(endpoint, error.code, str(error))
            return None
        return source

    def _fitted(self, group: EngineGroup) -> EngineGroup:
        """Return a group with the settings' sizes; slots that stay the same let graphs come and go while it serves."""
        setup = replace(group.setup, gpus=self._settings.serving_gpus or group.setup.gpus)
        return replace(group, setup=setup, slots=max(group.slots, self._settings.serving_slots))

    # -- what Serve says

    async def _tell(self, endpoint: EndpointRecord, status: Mapping[str, GroupStatus]) -> None:
        if endpoint.wanted == "stop":
            await self._tell_stopped(endpoint, status)
            return
        group = self._plan.of_graph.get(endpoint.name)
        found = None if group is None else status.get(group.name)
        graph = None if found is None else found.graphs.get(endpoint.name)
        if group is None or found is None:
            await self._write(endpoint, _DEPLOYING)
        elif found.state == "failed":
            await self._fail(endpoint, "deploy_failed", found.message or "Ray Serve does not say why")
        elif graph is not None and graph.served is not None:
            self._good_s[endpoint.id] = time.monotonic()
            # Until replicas have heard of the newest swap, what they say is about an earlier one.
            has_failed = graph.error is not None and graph.wanted == endpoint.generation
            reason = Failure(code="swap_failed", message=graph.error or "") if has_failed else None
            ready: EndpointUpdate = {"state": EndpointState.READY, "url": group.route, "served": graph.served}
            await self._write(endpoint, {**ready, "error": reason})
        elif graph is not None and graph.error is not None and graph.wanted == endpoint.generation:
            await self._fail(endpoint, "deploy_failed", graph.error)
        elif not self._was_just_good(endpoint):
            await self._write(endpoint, _DEPLOYING)

    def _was_just_good(self, endpoint: EndpointRecord) -> bool:
        """Whether an endpoint that nobody has just confirmed still counts as ready.

        A replica does not report while it takes new settings, and one that joins has no graphs at first; Serve sends
        requests to the others, and to this one when it is ready.
        """
        good_s = self._good_s.setdefault(endpoint.id, time.monotonic())
        return endpoint.state == EndpointState.READY and time.monotonic() - good_s < self._unconfirmed_s

    async def _tell_stopped(self, endpoint: EndpointRecord, status: Mapping[str, GroupStatus]) -> None:
        if not any(endpoint.name in found.graphs for found in status.values() if found.state != "deleting"):
            await self._write(endpoint, {"state": EndpointState.STOPPED, "url": None, "served": None, "error": None})

    async def _fail(self, endpoint: EndpointRecord, code: str, message: str) -> None:
        logger.warning("endpoint failed", extra={"endpoint": endpoint.name, "reason": message})
        error = Failure(code=code, message=message)
        await self._write(endpoint, {"state": EndpointState.FAILED, "url": None, "served": None, "error": error})

    async def _write(self, endpoint: EndpointRecord, update: EndpointUpdate) -> None:
        """Update a record where it says something else; one that has changed meanwhile is for the next round."""
        if all(getattr(endpoint, key) == value for key, value in update.items()):
            return
        with suppress(ConflictError, MissingError):
            await self._store.update(EndpointRecord, endpoint.id, update, version=endpoint.version)


async def work(deployments: Deployments, store: Store, job: str, lease_s: float) -> int:
    """Do rounds while there are endpoints; returns the exit code."""
    idle_since = good_s = time.monotonic()
    failures = 0
    while time.monotonic() - idle_since < IDLE_S and failures < _TRIES:
        try:
            if not await store.acquire(LEASE, job, lease_s):
                logger.info("another process deploys endpoints")
                return 0
            if await deployments.round():
                idle_since = time.monotonic()
            failures, good_s = 0, time.monotonic()
        except StoreUnavailableError as error:
            logger.warning("the store is away", extra={"reason": str(error)})
            idle_since = time.monotonic()
        except RuntimeStartError as error:
            logger.warning("Ray Serve is away", extra={"reason": str(error)})
            failures += 1
            if time.monotonic() - good_s > UNCONFIRMED_S:
                with suppress(StoreUnavailableError):
                    await unconfirm(store)
        await asyncio.sleep(ROUND_S)
    with suppress(StoreUnavailableError):
        await store.release(LEASE, job)
    return 1 if failures else 0


async def _run(settings: Settings, make_deployer: Callable[[str], Deployer], grouping: Grouping, job: str) -> int:
    store = open_store(settings)
    deployer = make_deployer(await persistently(lambda: serve_token(store)))
    working = asyncio.create_task(
        work(Deployments(store, settings, deployer, grouping), store, job, settings.lost_after_s)
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    try:
        return await working
    except asyncio.CancelledError:
        return 0
    finally:
        await store.close()


def main(arguments: list[str]) -> int:
    """Deploy endpoints of this process's settings and return the exit code."""
    from neuromas.cluster.connection import RayConnection
    from neuromas.cluster.machine import Machine
    from neuromas.serving.deploy import ServeAddress, ServeDeployer
    from neuromas.serving.endpoint import group_graphs
    from neuromas.serving.machine_opener import MachineOpener

    (job,) = arguments
    os.umask(PRIVATE_UMASK)
    settings = load_settings()
    set_up_logging(settings.log_level, "json")
    connection = RayConnection(None, min_cpus=1)
    try:
        url = urlsplit(settings.serve_url)
        is_loopback = url.hostname in ("127.0.0.1", "localhost", "::1")
        address = ServeAddress("127.0.0.1" if is_loopback else "0.0.0.0", url.port or 80)  # noqa: S104
        opener = MachineOpener(Machine.here())
        return asyncio.run(_run(settings, partial(ServeDeployer, address, opener), group_graphs, job))
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
