"""Workplace: what all stages of a run share in a learner's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag

from neuromas.journal.events import Observer
from neuromas.rollout.client import RolloutClient
from neuromas.spec.run import RunSpec
from neuromas.training.peers import Alone, Peers
from neuromas.training.sharded_base import Sharding


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all stages of a run share.

    Attributes:
        spec: the run.
        folder: the run's folder.
        client: the rollout workers.
        emit: receives events.
        peers: the data-parallel processes.
        stopping: set when the stage under way shall end.
        sharding: how the processes share the base; None where each holds all of it.
    """

    spec: RunSpec
    folder: Path
    client: RolloutClient
    emit: Observer
    peers: Peers = field(default_factory=Alone)
    stopping: Flag = field(default_factory=Flag)
    sharding: Sharding | None = None
