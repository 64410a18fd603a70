"""The actor between a run and its data-parallel learners. It passes on, and loads neither Ray Train nor torch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from neuromas.cluster.mailbox import Mailbox
from neuromas.errors import RuntimeStartError
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Event
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.training.study import Study

CONTROL, LEARNERS = "control", "learners"


@dataclass(frozen=True, slots=True)
class LearnerCommand:
    """One thing that all learners do together."""

    kind: Literal["start", "train", "evaluate", "study", "stop"]
    argument: Stage | EvaluationRequest | Study | None = None
    resume: Path | None = None


@dataclass(frozen=True, slots=True)
class LearnerReply:
    """What a learner answers: a value, or the error that it raised."""

    value: Any = None
    error: Exception | None = None


class CoordinatorActor:
    """Hands commands to the learners and their answers and events back; see ``Runtime`` for the public methods."""

    def __init__(self, num_learners: int) -> None:
        self._commands: list[queue.SimpleQueue[LearnerCommand]] = [queue.SimpleQueue() for _ in range(num_learners)]
        self._replies: queue.SimpleQueue[tuple[int, LearnerReply]] = queue.SimpleQueue()
        self._events = Mailbox()
        self._stop = threading.Event()
        self._published: Any = None

    # -- for the run

    def start(self) -> dict[str, int]:
        """Wait until all learners have imported what training needs; returns the facts of the first."""
        facts: dict[str, int] = self._command(LearnerCommand("start"))
        return facts

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        """Train one stage with all learners."""
        self._stop.clear()
        try:
            outcome: StageOutcome = self._command(LearnerCommand("train", stage, resume))
            return outcome
        finally:
            self._events.put(None)

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Evaluate on the first learner."""
        try:
            evaluation: Evaluation = self._command(LearnerCommand("evaluate", request))
            return evaluation
        finally:
            self._events.put(None)

    def study(self, study: Study) -> dict[str, Any]:
        """Return what a study finds out about a trained graph, on the first learner."""
        try:
            found: dict[str, Any] = self._command(LearnerCommand("study", study))
            return found
        finally:
            self._events.put(None)

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def request_stop(self) -> None:
        """Ask the stage under way to end."""
        self._stop.set()

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def next_events(self, timeout_s: float) -> list[Event | None]:
        """Return all events since the last call; see ``LearnerActor.next_events``."""
        return self._events.take(timeout_s)

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Let the learners go home once they have done what they were told before."""
        for commands in self._commands:
            commands.put(LearnerCommand("stop"))

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def fail(self, reason: str) -> None:
        """Fail the command under way: Ray Train has ended."""
        self._replies.put((-1, LearnerReply(error=RuntimeStartError(f"a data-parallel learner died: {reason}"))))

    # -- for the learners

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def next_command(self, rank: int) -> LearnerCommand:
        """Wait for the next command."""
        return self._commands[rank].get()

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def reply(self, rank: int, reply: LearnerReply) -> None:
        """Answer the last command."""
        self._replies.put((rank, reply))

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def tell(self, event: Event) -> bool:
        """Pass an event on; returns whether the stage shall end."""
        self._events.put(event)
        return self._stop.is_set()

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def pin(self, published: Sequence[Any]) -> None:
        """Remember a reference to the adapters that workers must hold, for those that start anew."""
        (self._published,) = published

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def pinned(self) -> Any:
        """Return what was pinned last."""
        return {} if self._published is None else ray.get(self._published)

    def _command(self, command: LearnerCommand) -> Any:
        for commands in self._commands:
            commands.put(command)
        values: dict[int, Any] = {}
        while len(values) < len(self._commands):
            rank, reply = self._replies.get()
            if reply.error is not None:
                raise reply.error
            values[rank] = reply.value
        return values[0]
