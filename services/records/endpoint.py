"""Endpoints: what is known of one, and how it gets from state to state."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final, Literal, TypedDict

from neuromas.services.records.failure import Failure
from neuromas.services.records.record import Moves, Record

EndpointWish = Literal["run", "stop"]


class EndpointState(StrEnum):
    """States of an endpoint."""

    DEPLOYING = "deploying"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


_MOVES: Final[Moves] = {
    EndpointState.DEPLOYING: frozenset({EndpointState.READY, EndpointState.FAILED, EndpointState.STOPPED}),
    # To deploying: nobody has said for some time that it answers.
    EndpointState.READY: frozenset({EndpointState.DEPLOYING, EndpointState.FAILED, EndpointState.STOPPED}),
    EndpointState.FAILED: frozenset({EndpointState.DEPLOYING, EndpointState.STOPPED}),
    EndpointState.STOPPED: frozenset({EndpointState.DEPLOYING}),
}


class EndpointUpdate(TypedDict, total=False):
    """What changes in an endpoint."""

    state: EndpointState
    wanted: EndpointWish
    checkpoint: str
    run: str
    replicas: int
    max_replicas: int
    generation: int
    served: int | None
    url: str | None
    error: Failure | None
    owner: str
    project: str | None


class EndpointRecord(Record):
    """A checkpoint under a name that answers."""

    noun: ClassVar[str] = "endpoint"
    updatable: ClassVar[frozenset[str]] = frozenset(EndpointUpdate.__annotations__)
    moves: ClassVar[Moves] = _MOVES

    object: Literal["endpoint"] = "endpoint"
    name: str
    checkpoint: str
    run: str
    state: EndpointState = EndpointState.DEPLOYING
    wanted: EndpointWish = "run"
    replicas: int = 1
    max_replicas: int = 1
    generation: int = 1
    """Raised by every swap."""
    served: int | None = None
    """Generation that answers; None = none does."""
    url: str | None = None
    """A route of Ray Serve, or an address."""
    error: Failure | None = None
    owner: str
    """Id of the key that made it; "local" where keys are off."""
    project: str | None = None
    """Keys of this project may change it too."""

    @property
    def is_up(self) -> bool:
        """Whether it answers, or is on its way there."""
        return self.state in (EndpointState.DEPLOYING, EndpointState.READY)
