"""Brings evaluations to their end: each is one Ray Job, started when there is room, again when its process was lost."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Container, Mapping
from typing import Final

from neuromas.services.records.evaluation import EvaluationRecord, EvaluationState, EvaluationUpdate
from neuromas.services.records.failure import Failure
from neuromas.services.runs.jobs import Job, Jobs
from neuromas.services.runs.queue import age
from neuromas.services.runs.state import job_id
from neuromas.services.settings import Settings
from neuromas.services.store.base import ConflictError, MissingError, Store
from neuromas.services.store.listing import all_of

logger = logging.getLogger(__name__)
_PREFIX: Final = "eval_"
"""How ids of evaluations, and of their jobs, begin."""


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
        running = await all_of(self._store, EvaluationRecord, state=EvaluationState.RUNNING)
        under_way = await self._stop_given_up(jobs, {_job_of(evaluation) for evaluation in running})
        for evaluation in running:
            under_way += await self._look_after(evaluation, jobs.get(_job_of(evaluation)))
        for evaluation in sorted(await all_of(self._store, EvaluationRecord, state=EvaluationState.QUEUED), key=age):
            if under_way >= room:
                break
            under_way += await self._take(evaluation)
        return under_way

    async def _stop_given_up(self, jobs: Mapping[str, Job], running: Container[str]) -> int:
        """Stop the jobs of evaluations that were cancelled; returns how many have not ended yet."""
        stopping = 0
        for job in jobs.values():
            if job.is_ended or job.id in running or not job.id.startswith(_PREFIX):
                continue
            if await self._is_given_up(job.id.rpartition("-")[0]):
                await self._jobs.stop(job.id)
                stopping += 1
        return stopping

    async def _is_given_up(self, id: str) -> bool:
        try:
            return (await self._store.get(EvaluationRecord, id)).state == EvaluationState.CANCELLED
        except MissingError:
            return False

    async def _look_after(self, evaluation: EvaluationRecord, job: Job | None) -> bool:
        if job is None:  # never submitted, or forgotten by a new cluster: the same id starts it once
            await self._submit(evaluation)
            return True
        if not job.is_ended:
            return True
        attempt = evaluation.attempt + 1
        reason = job.message or f"its job ended as {job.state}"
        logger.warning("evaluation lost", extra={"evaluation": evaluation.id, "reason": reason})
        update: EvaluationUpdate = {"state": EvaluationState.QUEUED, "attempt": attempt}
        if attempt >= self._settings.max_attempts:
            error = Failure(code="driver_lost", message=f"its process was lost: {reason}")
            update = {"state": EvaluationState.FAILED, "error": error, "ended": time.time()}
        await self._move(evaluation, update)
        return False

    async def _take(self, evaluation: EvaluationRecord) -> bool:
        job, now = job_id(evaluation), time.time()
        taken = await self._move(evaluation, {"state": EvaluationState.RUNNING, "job": job, "started": now})
        if taken is not None:
            await self._submit(taken)
        return taken is not None

    async def _submit(self, evaluation: EvaluationRecord) -> None:
        job = _job_of(evaluation)
        await self._jobs.submit(
            job, [sys.executable, "-m", "neuromas.services.runs.evaluator", evaluation.id, job], cpus=0
        )
        logger.info("submitted", extra={"job": job})

    async def _move(self, evaluation: EvaluationRecord, update: EvaluationUpdate) -> EvaluationRecord | None:
        try:
            return await self._store.update(EvaluationRecord, evaluation.id, update, version=evaluation.version)
        except (ConflictError, MissingError):
            return None


def _job_of(evaluation: EvaluationRecord) -> str:
    """Return the job of an evaluation under way."""
    return evaluation.job or job_id(evaluation)
