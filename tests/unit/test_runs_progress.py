"""What a run has reached, read off its events."""

from __future__ import annotations

import pytest

from neuromas.journal.events import CheckpointWritten, Evaluated, RunStarted, StageStarted, StepDone
from neuromas.services.records.run import RunProgress
from neuromas.services.runs.progress import ProgressObserver


def started(**changes: object) -> StageStarted:
    topology = {"nodes": [{"id": "a"}, {"id": "b"}], "edges": [["a", "b"]]}
    fields = {"stage": 0, "name": "stage-0", "topology": topology, "level": 2, "steps": 10, "trainable_parameters": 8}
    return StageStarted(**{**fields, **changes})


def test_nothing_is_known_before_the_first_stage() -> None:
    progress = ProgressObserver()
    progress(RunStarted(name="x", spec_hash="", topology_hash=""))
    assert progress.update() == {}


def test_a_stage_is_followed_step_by_step() -> None:
    progress = ProgressObserver()
    progress(started(first_step=3))
    stage = {"stage": 0, "stage_name": "stage-0", "steps": 10, "nodes": 2, "level": 2}
    assert progress.progress == RunProgress(**stage, step=3)
    for step, seconds in ((4, 1.0), (5, 3.0)):
        progress(StepDone(stage=0, step=step, metrics={"time/step_s": seconds, "train/loss": 0.5}))
    assert progress.progress == RunProgress(**stage, step=5, eta_s=10.0)
    assert progress.latest == {"time/step_s": 3.0, "train/loss": 0.5}


def test_the_pace_of_one_stage_says_nothing_of_the_next() -> None:
    progress = ProgressObserver()
    progress(started())
    progress(StepDone(stage=0, step=10, metrics={"time/step_s": 5.0}))
    progress(started(stage=1, name="stage-1", steps=4))
    assert progress.progress is not None
    assert progress.progress.eta_s is None
    progress(StepDone(stage=1, step=2, metrics={"time/step_s": 1.0}))
    assert progress.progress.eta_s == 2.0


def test_the_reward_is_the_mean_of_the_last_five_steps_of_the_stage() -> None:
    progress = ProgressObserver()
    progress(started())
    for step, reward in enumerate((0.9, 0.1, 0.2, 0.3, 0.4, 0.5), start=1):
        progress(StepDone(stage=0, step=step, metrics={"rollout/reward_mean": reward}))
    assert progress.update()["reward"] == pytest.approx(0.3)
    progress(started(stage=1, name="stage-1", steps=4))
    progress(StepDone(stage=1, step=1, metrics={"rollout/reward_mean": 0.75}))
    assert progress.update()["reward"] == 0.75


def test_the_accuracy_is_of_the_last_greedy_evaluation() -> None:
    progress = ProgressObserver()
    evaluated = {"stage": 0, "step": 1, "level": None, "examples": 8}
    progress(Evaluated(mode="greedy", correct=6.0, **evaluated))
    progress(Evaluated(mode="sampled", correct=1.0, **evaluated))
    progress(Evaluated(mode="greedy", purpose="check", correct=2.0, **evaluated))
    assert progress.update() == {"accuracy": 0.75}
    progress(Evaluated(mode="greedy", correct=0.0, **evaluated))
    assert progress.update() == {"accuracy": 0.0}


def test_checkpoints_are_counted() -> None:
    progress = ProgressObserver()
    for step in (2, 4):
        progress(CheckpointWritten(stage=0, step=step, path="somewhere"))
    assert progress.checkpoints == 2
