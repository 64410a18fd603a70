"""Heartbeat: the part of a driver that talks to the store while it trains: signs of life, progress, what is wanted.

A store that is away delays it and changes nothing else: the run goes on, and what was not told is told when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from neuromas.services.records.run import RunRecord, RunState, RunUpdate, Wanted
from neuromas.services.runs.checkpoints import CheckpointRegistrar
from neuromas.services.runs.forward import Forwarder
from neuromas.services.runs.progress import ProgressObserver
from neuromas.services.runs.state import SupersededError, tell_state, tell_update, update_own
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store, StoreUnavailableError

logger = logging.getLogger(__name__)
T = TypeVar("T")
FORWARD_S: Final = 0.5
"""Seconds between two looks at the run folder: what a line takes at most to reach the store."""
RETRY_S: Final = 1.0
GIVE_UP_S: Final = 3600.0
"""Longest time that a store may be away before the driver ends without it; the run is then picked up by another."""


def driver_lease(run_id: str) -> str:
    """Return the name of the lease that a run's driver holds while it lives."""
    return f"driver/{run_id}"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a driver belongs: the run, the job that drives it, and the settings of the service."""

    run_id: str
    job: str
    settings: Settings
    store: Store

    async def hold(self) -> bool:
        """Take or renew the run's lease; False while another driver holds it."""
        return await self.store.acquire(driver_lease(self.run_id), self.job, self.settings.lost_after_s)


async def claim(assignment: Assignment) -> RunRecord:
    """Return the run's record once this job is known to be its only driver.

    An earlier driver that was taken for dead may live for some seconds; its lease is waited for.

    Raises:
        SupersededError: the run is not this job's.
        StoreUnavailableError: the store was away too long.
    """
    deadline = time.monotonic() + 2 * assignment.settings.lost_after_s

    async def attempt() -> RunRecord | None:
        if not await assignment.hold():
            return None
        run = await update_own(assignment.store, assignment.run_id, assignment.job, {"heartbeat": time.time()})
        await tell_state(assignment.store, assignment.run_id, RunState.RUNNING, run.attempt)
        return run

    while time.monotonic() < deadline:
        run = await persistently(attempt)
        if run is not None:
            return run
        await asyncio.sleep(min(RETRY_S, assignment.settings.lost_after_s / 4))
    raise SupersededError(f"another driver holds run {assignment.run_id}")


async def release(assignment: Assignment) -> None:
    """Give the lease back, so that a resumed run need not wait for it."""
    try:
        await assignment.store.release(driver_lease(assignment.run_id), assignment.job)
    except StoreUnavailableError:
        return  # it expires by itself


class Heartbeat:
    """Tells the store of one run from ``start`` until ``deliver``, which tells how it ended."""

    def __init__(
        self,
        assignment: Assignment,
        progress: ProgressObserver,
        forwarder: Forwarder,
        registrar: CheckpointRegistrar,
        on_wanted: Callable[[Wanted], None],
        on_broken: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            assignment: where the driver belongs.
            progress: of the run.
            forwarder: of the run's folder; begins when the run has opened it (``is_open``).
            registrar: of the run's checkpoints.
            on_wanted: told when the user wants a pause or an end.
            on_broken: told when another driver has taken the run over, or telling has crashed.
        """
        self._assignment, self._progress = assignment, progress
        self._forwarder, self._registrar = forwarder, registrar
        self._on_wanted, self._on_broken = on_wanted, on_broken
        self._wanted = Wanted.RUN
        self._registered = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.is_open = False

    @property
    def wanted(self) -> Wanted:
        """What the user wants of the run, as last heard."""
        return self._wanted

    async def start(self) -> None:
        """Begin to beat and to forward."""
        beat, forward = (self._beat, self._assignment.settings.heartbeat_s), (self._forward, FORWARD_S)
        self._tasks = [asyncio.create_task(self._repeat(work, every_s)) for work, every_s in (beat, forward)]

    async def deliver(self, ended: Callable[[RunRecord], RunUpdate], message: str) -> None:
        """Tell the store how the run ended, after everything that it wrote; nothing goes on when this returns.

        Args:
            ended: from the record to the update that ends this driver's work on it.
            message: for the event of the new state.

        Raises:
            SupersededError: another driver has taken the run over.
            StoreUnavailableError: the store was away too long.
        """
        assignment, (beating, forwarding) = self._assignment, self._tasks
        await _end(forwarding)
        await persistently(self._forwarder.forward)
        await persistently(self._registrar.register)
        await _end(beating)

        async def move() -> None:
            run = await assignment.store.get(RunRecord, assignment.run_id)
            update: RunUpdate = {**self._progress.update(), **ended(run)}
            # Told first: who follows the events until the run has ended must find the last of them there.
            await tell_update(assignment.store, run, update, message)
            await update_own(assignment.store, assignment.run_id, assignment.job, update)

        await persistently(move)

    async def _beat(self) -> None:
        assignment = self._assignment
        if not await assignment.hold():
            raise SupersededError(f"another driver holds run {assignment.run_id}")
        update: RunUpdate = {"heartbeat": time.time(), **self._progress.update()}
        run = await update_own(assignment.store, assignment.run_id, assignment.job, update)
        if run.wanted not in (self._wanted, Wanted.RUN):
            self._on_wanted(run.wanted)
        self._wanted = run.wanted

    async def _forward(self) -> None:
        if not self.is_open:
            return
        await self._forwarder.forward()
        written = self._progress.checkpoints
        if written != self._registered:
            await self._registrar.register()
            self._registered = written

    async def _repeat(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        try:
            while True:
                await persistently(work)
                await asyncio.sleep(every_s)
        except SupersededError as error:
            logger.warning("another driver has the run", extra={"reason": str(error)})
            self._on_broken()
        except Exception:  # a run that nobody hears of must not go on
            logger.exception("telling the store has crashed")
            self._on_broken()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def persistently(work: Callable[[], Awaitable[T]], give_up_s: float = GIVE_UP_S) -> T:
    """Do something with the store, again while the store is away.

    Raises:
        StoreUnavailableError: it was away for ``give_up_s`` seconds.
    """
    away_since: float | None = None
    while True:
        try:
            result = await work()
        except StoreUnavailableError as error:
            if away_since is None:
                away_since = time.monotonic()
                logger.warning("the store is away; going on without it", extra={"reason": str(error)})
            if time.monotonic() - away_since > give_up_s:
                raise
            await asyncio.sleep(RETRY_S)
        else:
            if away_since is not None:
                logger.info("the store is back", extra={"away_s": round(time.monotonic() - away_since, 1)})
            return result
