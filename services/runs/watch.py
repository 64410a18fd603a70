"""Brings runs to what is wanted of them: starts those whose turn it is, and looks after those under way.

What to do is read off the run's record and Ray's word on its job, at every round anew; every move is a
compare-and-set. So it does not matter when a supervisor dies, or what it had done by then.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from neuromas.services.logs import about_run
from neuromas.services.records.run import RunRecord, RunState, RunUpdate, Wanted
from neuromas.services.runs.heartbeat import driver_lease
from neuromas.services.runs.jobs import Job, Jobs
from neuromas.services.runs.queue import last_starts, next_run
from neuromas.services.runs.state import after_loss, after_stop, job_id, move, tell_loss, tell_state, tell_update
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store
from neuromas.services.store.listing import all_of

logger = logging.getLogger(__name__)
STOP_GRACE_S = 120.0
"""Seconds that a driver has for a pause or an end that is wanted of it; then its job is stopped."""
_SUPERVISOR = "supervisor"


@dataclass(slots=True)
class _Sign:
    """A driver's last sign of life, and when this process saw it first; times of other machines are not compared."""

    heartbeat: float | None
    seen_s: float


class RunWatch:
    """One supervisor's eye on the runs. What it remembers is only for grace periods."""

    def __init__(self, store: Store, jobs: Jobs, settings: Settings) -> None:
        self._store, self._jobs, self._settings = store, jobs, settings
        self._signs: dict[str, _Sign] = {}
        self._asked: dict[str, float] = {}
        self._served: dict[str, float] | None = None

    async def look(self) -> int:
        """Look at every unfinished run once; returns how many are under way.

        Raises:
            StoreUnavailableError: the store is away.
            RayUnavailableError: Ray is away.
        """
        # Ray is asked first: of a job that has ended by then, the record says all that its driver had to tell.
        jobs = await self._jobs.list()
        for run in await all_of(self._store, RunRecord, state=RunState.RUNNING):
            with about_run(run.id):
                await self._look_after(run, jobs.get(_job_of(run)))
        for state in (RunState.QUEUED, RunState.PAUSED):
            for run in await all_of(self._store, RunRecord, state=state):
                await self._settle(run)
        running = await all_of(self._store, RunRecord, state=RunState.RUNNING)
        self._forget(running)
        await self._stop_strays(jobs, running)
        return len(running)

    async def start(self, room: int) -> None:
        """Start waiting runs, each owner in turn, until ``room`` runs are under way.

        Raises:
            StoreUnavailableError: the store is away.
            RayUnavailableError: Ray is away; what was begun is found by the next ``look``.
        """
        running = await all_of(self._store, RunRecord, state=RunState.RUNNING)
        queued = await all_of(self._store, RunRecord, state=RunState.QUEUED)
        queued = [run for run in queued if run.wanted == Wanted.RUN]
        while len(running) < room and queued:
            run = next_run(queued, running, await self._last_starts())
            assert run is not None, "one waits"
            queued.remove(run)
            if (started := await self._take(run)) is not None:
                running.append(started)

    # -- runs under way

    async def _look_after(self, run: RunRecord, job: Job | None) -> None:
        if job is None:
            await self._without_job(run)
        elif job.is_ended:
            await self._ended(run, job.message or f"its job ended as {job.state}")
        elif run.wanted != Wanted.RUN and self._is_overdue(run, job):
            logger.warning("stopping a job that did not end by itself", extra={"job": job.id})
            await self._jobs.stop(job.id)
        elif self._is_silent(run):
            logger.warning("stopping a job without a sign of life", extra={"job": job.id})
            await self._jobs.stop(job.id)

    async def _without_job(self, run: RunRecord) -> None:
        """Go on with a run whose job Ray does not know: it was never submitted, or Ray has lost it."""
        if run.heartbeat is None:
            await self._submit(run)
        elif await self._store.acquire(driver_lease(run.id), _SUPERVISOR, self._settings.heartbeat_s):
            await self._store.release(driver_lease(run.id), _SUPERVISOR)
            await self._ended(run, "Ray does not know its job any more: the cluster was started anew")

    async def _ended(self, run: RunRecord, reason: str) -> None:
        """Go on with a run whose driver ended without saying how."""
        if run.wanted != Wanted.RUN:
            update, message = after_stop(run), ""
        else:
            message = f"the driver was lost: {reason}"
            update = after_loss(run, "driver_lost", message)
            logger.warning("driver lost", extra={"job": run.job, "reason": reason})
            await tell_loss(self._store, run, message)
        # Its process is gone, and with it who would give the lease back: the next driver need not wait for it.
        await self._store.release(driver_lease(run.id), _job_of(run))
        if await move(self._store, run, update, [RunState.RUNNING]) is not None:
            await tell_update(self._store, run, update, message)

    def _is_overdue(self, run: RunRecord, job: Job) -> bool:
        """Whether a driver has had its time to stop; one that has not started yet needs none."""
        asked = self._asked.setdefault(run.id, time.monotonic())
        return job.state == "PENDING" or time.monotonic() - asked > STOP_GRACE_S

    def _is_silent(self, run: RunRecord) -> bool:
        """Whether a driver has given no sign of life for too long, all of it while the store could be read."""
        now, sign = time.monotonic(), self._signs.get(run.id)
        if sign is None or sign.heartbeat != run.heartbeat:
            self._signs[run.id] = _Sign(run.heartbeat, now)
            return False
        # One that has not given its first sign is starting, which Ray watches: installing, loading, waiting for CPUs.
        return run.heartbeat is not None and now - sign.seen_s > self._settings.lost_after_s

    def outage(self) -> None:
        """Forget when signs of life were seen: nobody could give one while the store or Ray was away."""
        self._signs.clear()

    def _forget(self, running: list[RunRecord]) -> None:
        ids = {run.id for run in running}
        self._signs = {id: sign for id, sign in self._signs.items() if id in ids}
        self._asked = {id: asked for id, asked in self._asked.items() if id in ids}

    async def _stop_strays(self, jobs: Mapping[str, Job], running: list[RunRecord]) -> None:
        """Stop jobs of runs that are not under way under them: what an outage or a change of supervisors left."""
        wanted = {run.job for run in running}
        for job in jobs.values():
            if job.id.startswith("run_") and not job.is_ended and job.id not in wanted:
                await self._stop_stray(job)

    async def _stop_stray(self, job: Job) -> None:
        since = self._asked.setdefault(job.id, time.monotonic())
        if time.monotonic() - since > STOP_GRACE_S:  # a driver that has told its end may still be leaving
            logger.warning("stopping a job that no run is under", extra={"job": job.id})
            await self._jobs.stop(job.id)

    # -- runs that wait

    async def _settle(self, run: RunRecord) -> None:
        """Carry out what is wanted of a run that no driver has."""
        update: RunUpdate = {}
        if run.wanted == Wanted.CANCEL:
            update = {"state": RunState.CANCELLED, "ended": time.time()}
        elif run.wanted == Wanted.PAUSE and run.state == RunState.QUEUED:
            update = {"state": RunState.PAUSED}
        elif run.wanted == Wanted.RUN and run.state == RunState.PAUSED:
            update = {"state": RunState.QUEUED}
        if update and await move(self._store, run, update, [run.state]) is not None:
            await tell_update(self._store, run, update)

    async def _take(self, run: RunRecord) -> RunRecord | None:
        """Move a run to running, then submit its job: one that was not submitted is found by the next round."""
        now, job = time.time(), job_id(run)
        update: RunUpdate = {"state": RunState.RUNNING, "job": job, "started": run.started or now, "heartbeat": None}
        started = await move(self._store, run, update, [RunState.QUEUED])
        if started is None:
            return None
        (await self._last_starts())[run.owner] = now
        with about_run(run.id):
            await tell_state(self._store, run.id, RunState.RUNNING, run.attempt)
            await self._submit(started)
        return started

    async def _submit(self, run: RunRecord) -> None:
        job, is_local = _job_of(run), run.spec.get("runtime", {}).get("type") == "local"
        only_imports = run.imports is not None and not run.imports.train
        command = [sys.executable, "-m", "neuromas.services.runs.driver", run.id, job]
        # A driver whose runtime is Ray only watches; one that works in its own process needs a place for that. One that
        # imports first and trains then has it in its workers' places, which are empty until it is done.
        await self._jobs.submit(job, command, cpus=1 if is_local or only_imports else 0)
        logger.info("submitted", extra={"job": job})

    async def _last_starts(self) -> dict[str, float]:
        if self._served is None:
            self._served = last_starts(await all_of(self._store, RunRecord))
        return self._served


def _job_of(run: RunRecord) -> str:
    """Return the job of a run under way."""
    return run.job or job_id(run)
