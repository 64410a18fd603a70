"""A cluster whose jobs do what the test says, in place of Ray's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from neuromas.services.runs.jobs import Job, RayUnavailableError


@dataclass
class JobCluster:
    """Jobs in memory; like Ray, it takes a submission id once."""

    jobs: dict[str, Job] = field(default_factory=dict)
    commands: dict[str, Sequence[str]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    is_away: bool = False
    nodes: int = 1

    async def list(self) -> Mapping[str, Job]:
        return dict(self.jobs)

    async def submit(self, id: str, command: Sequence[str], *, cpus: float = 0) -> None:
        if self.is_away:
            raise RayUnavailableError("away")
        self.jobs.setdefault(id, Job(id, "RUNNING"))
        self.commands.setdefault(id, command)

    async def num_nodes(self) -> int:
        if self.is_away:
            raise RayUnavailableError("away")
        return self.nodes

    async def stop(self, id: str) -> None:
        self.stopped.append(id)
        self.end(id, "STOPPED")

    def end(self, id: str, state: str = "FAILED", message: str = "") -> None:
        self.jobs[id] = replace(self.jobs[id], state=state, message=message)
