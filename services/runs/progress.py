"""Progress: what a run has reached, kept up to date by its events and read by the heartbeat. Loads no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from neuromas.journal.events import AdapterImported, CheckpointWritten, Evaluated, Event, StageStarted, StepDone
from neuromas.report.numbers import REWARD_STEPS
from neuromas.services.records.run import RunProgress, RunUpdate
from neuromas.services.store.base import Document

_RECENT_STEPS: Final = 20
_STEP_SECONDS: Final = "time/step_s"
_REWARD: Final = "rollout/reward_mean"


class ProgressObserver:
    """Observer of a run. Written by the run's thread; every attribute is replaced whole, so any thread may read it.

    Attributes:
        progress: of the stage under way; None before the first. ``eta_s`` is the time to the end of the stage at the
            pace of the last steps, None before the first step.
        latest: metrics of the last step, by name.
        reward: mean of the last steps of the stage; None before the first.
        accuracy: of the last greedy evaluation; None before it.
        checkpoints: how many have been written.
        imported: what became of adapters that were imported; None where there are none.
    """

    def __init__(self) -> None:
        self.progress: RunProgress | None = None
        self.latest: Mapping[str, float] = {}
        self.reward: float | None = None
        self.accuracy: float | None = None
        self.checkpoints = 0
        self.imported: Document | None = None
        self._seconds: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._rewards: deque[float] = deque(maxlen=REWARD_STEPS)

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case AdapterImported():
                self._import(event)
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

    def update(self) -> RunUpdate:
        """Return the fields of the run's record that are known by now."""
        update: RunUpdate = {}
        if self.progress is not None:
            update["progress"] = self.progress
        if self.latest:
            update["latest"] = self.latest
        if self.reward is not None:
            update["reward"] = self.reward
        if self.accuracy is not None:
            update["accuracy"] = self.accuracy
        if self.imported is not None:
            update["imported"] = self.imported
        return update

    def _import(self, event: AdapterImported) -> None:
        known = self.imported or {"adapters": {}, "fresh": []}
        self.imported = {**known, "adapters": {**known["adapters"], event.adapter: dict(event.became)}}
        self.progress = RunProgress(stage_name="import", step=event.done, steps=event.total)

    def _start(self, event: StageStarted) -> None:
        self._seconds.clear()
        self._rewards.clear()
        self.progress = RunProgress(
            stage=event.stage,
            stage_name=event.name,
            step=event.first_step,
            steps=event.steps,
            nodes=len(event.topology["nodes"]),
            level=event.level,
        )

    def _step(self, event: StepDone) -> None:
        self.latest = dict(event.metrics)
        if (reward := event.metrics.get(_REWARD)) is not None:
            self._rewards.append(reward)
            self.reward = sum(self._rewards) / len(self._rewards)
        self._seconds.append(event.metrics.get(_STEP_SECONDS, 0.0))
        if self.progress is not None:
            left = self.progress.steps - event.step
            pace = sum(self._seconds) / len(self._seconds)
            self.progress = self.progress.model_copy(update={"step": event.step, "eta_s": round(left * pace, 1)})
