"""Brings evaluations to their end: each is one Ray Job, started when there is room, again when its process was lost."""

from __future__ import annotations

import logging
import sys
import time

from neuromas.services.records import EvaluationState
from neuromas.services.runs.jobs import Job, Jobs
from neuromas.services.runs.queue import age
from neuromas.services.runs.state import job_id
from neuromas.services.settings import Settings
from neuromas.services.store.base import ConflictError, Document, Kind, MissingError, Store
from neuromas.services.store.listing import all_of

logger = logging.getLogger(__name__)


class Evaluations:
    """One supervisor's eye on the evaluations; remembers nothing."""

    def __init__(self, store: Store, jobs: Jobs, settings: Settings) -> None:
        self._store, self._jobs, self._settings = store, jobs, settings

    async def round(self, room: int) -> int:
        """Look at every unfinished evaluation once, and start what there is room for; oldest first.

        Args:
            room: how many may be under way.

        Returns:
            How many are under way.

        Raises:
            StoreUnavailableError: the store is away.
            RayUnavailableError: Ray is away.
        """
        jobs = await self._jobs.list()
        running = await all_of(self._store, Kind.EVALUATION, state=EvaluationState.RUNNING)
        under_way = 0
        for evaluation in running:
            under_way += await self._look_after(evaluation, jobs.get(evaluation["job"]))
        for evaluation in sorted(await all_of(self._store, Kind.EVALUATION, state=EvaluationState.QUEUED), key=age):
            if under_way >= room:
                break
            under_way += await self._take(evaluation)
        return under_way

    async def _look_after(self, evaluation: Document, job: Job | None) -> bool:
        if job is None:  # never submitted, or forgotten by a new cluster: the same id starts it once
            await self._submit(evaluation)
            return True
        if not job.is_ended:
            return True
        attempt = evaluation["attempt"] + 1
        reason = job.message or f"its job ended as {job.state}"
        logger.warning("evaluation lost", extra={"evaluation": evaluation["id"], "reason": reason})
        change = {"state": EvaluationState.QUEUED, "attempt": attempt}
        if attempt >= self._settings.max_attempts:
            error = {"code": "driver_lost", "message": f"its process was lost: {reason}", "param": None}
            change = {"state": EvaluationState.FAILED, "error": error, "ended": time.time()}
        await self._move(evaluation, change)
        return False

    async def _take(self, evaluation: Document) -> bool:
        change = {
            "state": EvaluationState.RUNNING,
            "attempt": evaluation.get("attempt", 0),
            "job": job_id(evaluation),
            "started": time.time(),
        }
        taken = await self._move(evaluation, change)
        if taken is not None:
            await self._submit(taken)
        return taken is not None

    async def _submit(self, evaluation: Document) -> None:
        command = [sys.executable, "-m", "neuromas.services.runs.evaluate", evaluation["id"], evaluation["job"]]
        await self._jobs.submit(evaluation["job"], command, cpus=0)
        logger.info("submitted", extra={"job": evaluation["job"]})

    async def _move(self, evaluation: Document, change: Document) -> Document | None:
        try:
            return await self._store.update(
                Kind.EVALUATION, evaluation["id"], change, version=evaluation["version"], states=[evaluation["state"]]
            )
        except (ConflictError, MissingError):
            return None
