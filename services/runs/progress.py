"""Progress: what a run has reached, kept up to date by its events and read by the heartbeat. Loads no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from neuromas.journal.events import CheckpointWritten, Evaluated, Event, StageStarted, StepDone

_RECENT_STEPS: Final = 20
_STEP_SECONDS: Final = "time/step_s"


class Progress:
    """Observer of a run. Written by the run's thread; every attribute is replaced whole, so any thread may read it.

    Attributes:
        document: {stage, stage_name, step, steps, nodes, level, eta_s} of the stage under way; None before the first.
            ``eta_s`` is the time to the end of the stage at the pace of the last steps, None before the first step.
        latest: metrics of the last step, by name.
        accuracy: of the last greedy evaluation; None before it.
        checkpoints: how many have been written.
    """

    def __init__(self) -> None:
        self.document: Mapping[str, Any] | None = None
        self.latest: Mapping[str, float] = {}
        self.accuracy: float | None = None
        self.checkpoints = 0
        self._seconds: deque[float] = deque(maxlen=_RECENT_STEPS)

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case StageStarted():
                self._start(event)
            case StepDone():
                self._step(event)
            case Evaluated(mode="greedy", purpose="evaluation"):
                self.accuracy = event.correct / event.examples
            case CheckpointWritten():
                self.checkpoints += 1
            case _:
                pass

    def change(self) -> dict[str, Any]:
        """Return the keys of the run's document that are known by now."""
        known = {"progress": self.document, "latest": self.latest, "accuracy": self.accuracy}
        return {key: value for key, value in known.items() if value not in (None, {})}

    def _start(self, event: StageStarted) -> None:
        self._seconds.clear()
        self.document = {
            "stage": event.stage,
            "stage_name": event.name,
            "step": event.first_step,
            "steps": event.steps,
            "nodes": len(event.topology["nodes"]),
            "level": event.level,
            "eta_s": None,
        }

    def _step(self, event: StepDone) -> None:
        self.latest = dict(event.metrics)
        self._seconds.append(event.metrics.get(_STEP_SECONDS, 0.0))
        if self.document is not None:
            left = self.document["steps"] - event.step
            pace = sum(self._seconds) / len(self._seconds)
            self.document = {**self.document, "step": event.step, "eta_s": round(left * pace, 1)}
