"""What a stage tells and keeps while it trains: evaluations, rollouts and checkpoints, each at its steps alone."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from resumed_stage import make_client, stage_spec, train

from neuromas.checkpoints.location import read_state
from neuromas.growth.stage import StageOutcome
from neuromas.journal.events import CheckpointWritten, Evaluated, Event, RolloutsSampled, StepDone
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient, Ticket

E = TypeVar("E", bound=Event)
attempts = count()  # versions are published once in the life of an engine


@pytest.fixture(scope="module")
def client() -> LocalRolloutClient:
    return make_client(stage_spec())


def told(client: Any, folder: Path, **sections: Any) -> tuple[StageOutcome, list[Event]]:
    events: list[Event] = []
    training = sections.pop("training", {})
    spec = stage_spec(sections, **training)
    return train(spec, folder, client, on_event=events.append, attempt=next(attempts)), events


def of(kind: type[E], events: list[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def test_a_stage_is_evaluated_within_and_tells_some_rollouts_of_some_steps(
    client: LocalRolloutClient, tmp_path: Path
) -> None:
    result, events = told(
        client,
        tmp_path,
        evaluation={"examples": 4, "every": 2},
        tracking={"rollouts_every": 3, "rollouts_per_sample": 2},
    )
    looks = of(Evaluated, events)
    assert [(look.step, look.mode) for look in looks] == [
        (step, mode) for step in (2, 4, 6) for mode in ("greedy", "sampled")
    ]
    assert {(look.purpose, look.examples) for look in looks} == {("evaluation", 4)}
    assert [step.step for step in of(StepDone, events)] == [1, 2, 3, 4, 5, 6]
    steps = {step.step: step.metrics for step in of(StepDone, events)}
    for look in looks[:4]:
        assert steps[look.step][f"eval/accuracy_{look.mode}"] == look.correct / 4
    assert [step for step, metrics in steps.items() if "eval/accuracy_greedy" in metrics] == [2, 4]
    assert (result.accuracy, result.sampled_accuracy) == (looks[4].correct / 4, looks[5].correct / 4)
    samples = of(RolloutsSampled, events)
    assert [sample.step for sample in samples] == [1, 4]
    assert [len({rollout.example.id for rollout in sample.rollouts}) for sample in samples] == [2, 2]
    written = of(CheckpointWritten, events)
    assert [one.step for one in written] == [2, 4, 6]
    states = [read_state(Path(one.path)) for one in written]
    assert [state["accuracy"] for state in states] == [looks[place].correct / 4 for place in (0, 2, 4)]
    assert [state["cursor"] for state in states] == [8, 16, 24]


class Counting:
    """The client, counting the batches that are sampled for training."""

    def __init__(self, client: LocalRolloutClient) -> None:
        self._client, self.batches = client, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def submit(self, batch: RolloutBatch) -> Ticket:
        self.batches += batch.group_size > 1
        return self._client.submit(batch)


def test_one_step_ahead_neither_the_end_nor_a_checkpoint_is_passed(client: LocalRolloutClient, tmp_path: Path) -> None:
    counting = Counting(client)
    result, events = told(counting, tmp_path, training={"overlap": 1, "steps": 5})
    written = of(CheckpointWritten, events)
    assert [(one.step, read_state(Path(one.path))["cursor"]) for one in written] == [(2, 8), (4, 16), (5, 20)]
    assert (counting.batches, result.spending.rollouts) == (5, 5 * 16)


def test_no_checkpoint_lies_inside_the_iterations_over_one_batch(client: LocalRolloutClient, tmp_path: Path) -> None:
    result, events = told(client, tmp_path, training={"num_iterations": 3, "steps": 7})
    written = of(CheckpointWritten, events)
    assert [(one.step, read_state(Path(one.path))["cursor"]) for one in written] == [(6, 8), (7, 12)]
    assert result.spending.rollouts == 3 * 16
