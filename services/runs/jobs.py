"""Ray Jobs as the supervisor sees them: submit, list, stop. The one place that knows the Jobs API.

Ray is asked for by every supervisor anew: nothing about a job is remembered here, so that a supervisor may die.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from neuromas.errors import NeuroMASError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

T = TypeVar("T")
TIMEOUT_S: Final = 60.0
"""Longest time that Ray's dashboard may take over one answer."""
_NODES: Final = "/nodes?view=hostNameList"
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
"""States, in Ray's words, that a job never leaves."""


class RayUnavailableError(NeuroMASError, ConnectionError):
    """Ray's dashboard does not answer now, or refuses; it is not known whether anything was done. Try again."""

    code = "ray_unavailable"


@dataclass(frozen=True, slots=True)
class Job:
    """What Ray knows of one job.

    Attributes:
        id: the submission id that we chose.
        state: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: the first line of Ray's own words on it.
        ended_s: when it ended, unix seconds; None while it has not.
    """

    id: str
    state: str
    message: str = ""
    ended_s: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether its process is gone."""
        return self.state in ENDED


class Jobs(Protocol):
    """Where processes of the service's work are started. Every method may raise RayUnavailableError."""

    async def list(self) -> Mapping[str, Job]:
        """Return all jobs by id."""

    async def submit(self, id: str, command: Sequence[str], *, cpus: float = 0) -> None:
        """Start a command on the cluster; an id that was used before is left as it is.

        Args:
            id: of the job.
            command: program and arguments.
            cpus: that the command itself needs, beside the actors it starts; 0 = it may run on the head node.
        """

    async def stop(self, id: str) -> None:
        """Ask a job to end (SIGTERM), then make it (SIGKILL); a job that has ended is left as it is."""

    async def num_nodes(self) -> int:
        """Return how many machines of the cluster are alive; where none is, jobs are taken and never begin."""


class RayJobs:
    """Jobs of a Ray cluster, through its dashboard."""

    def __init__(self, address: str) -> None:
        """Remember where the dashboard is; it is reached at the first call.

        Args:
            address: such as ``http://127.0.0.1:8265``. The token comes from ``RAY_AUTH_TOKEN`` or its file.
        """
        self._address = address
        self._client: JobSubmissionClient | None = None

    async def list(self) -> Mapping[str, Job]:
        """Return all jobs by id; see Jobs."""
        found = await self._ask(lambda client: client.list_jobs())
        jobs = (
            Job(
                id=str(details.submission_id),
                state=str(details.status.value),
                message=(details.message or "").partition("\n")[0].strip(),
                ended_s=None if details.end_time is None else details.end_time / 1000,
            )
            for details in found
            if details.submission_id is not None
        )
        return {job.id: job for job in jobs}

    async def submit(self, id: str, command: Sequence[str], *, cpus: float = 0) -> None:
        """Start a command; see Jobs."""

        def submit(client: JobSubmissionClient) -> None:
            client.submit_job(entrypoint=shlex.join(command), submission_id=id, entrypoint_num_cpus=cpus or None)

        try:
            await self._ask(submit)
        except RayUnavailableError:
            # Ray answers a used id with an internal error, like everything else that goes wrong.
            if id not in await self.list():
                raise

    async def stop(self, id: str) -> None:
        """End a job; see Jobs."""
        await self._ask(lambda client: client.stop_job(id))

    async def num_nodes(self) -> int:
        """Return how many machines are alive; see Jobs."""
        # The dashboard answers without any; the SDK has no public call for them.
        answer = await self._ask(lambda client: client._do_request("GET", _NODES, timeout=TIMEOUT_S).json())
        return len(answer["data"]["hostNameList"])

    async def _ask(self, question: Callable[[JobSubmissionClient], T]) -> T:
        def ask() -> T:
            try:
                return question(self._connected())
            except (OSError, RuntimeError) as error:
                reason = str(error).strip().partition("\n")[0]
                raise RayUnavailableError(f"Ray's dashboard at {self._address} does not answer: {reason}") from error

        try:
            return await asyncio.wait_for(asyncio.to_thread(ask), TIMEOUT_S)
        except TimeoutError as error:
            raise RayUnavailableError(f"Ray's dashboard at {self._address} took over {TIMEOUT_S:g} s") from error

    def _connected(self) -> JobSubmissionClient:
        if self._client is None:
            from ray.job_submission import JobSubmissionClient

            # RAY_ADDRESS in the environment (the cluster's own address) would come before the argument.
            os.environ["RAY_API_SERVER_ADDRESS"] = self._address
            self._client = JobSubmissionClient(self._address)
        return self._client
