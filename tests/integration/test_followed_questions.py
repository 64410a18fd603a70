"""The held-out questions that a stage asks again and again: when, which, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from resumed_stage import STEPS, make_client, stage_spec, train

from neuromas.journal import lines as journal
from neuromas.journal.events import Evaluated, Event, QuestionsAsked
from neuromas.journal.folder import QUESTIONS_FILE, RunWriter
from neuromas.rollout.client import LocalRolloutClient
from neuromas.tasks.held_out import held_out
from neuromas.tasks.registry import make_task


@pytest.fixture(scope="module")
def client() -> LocalRolloutClient:
    return make_client(stage_spec())


def test_the_same_questions_are_asked_before_at_each_checkpoint_and_at_the_end(
    client: LocalRolloutClient, tmp_path: Path
) -> None:
    spec = stage_spec()
    events: list[Event] = []
    writer = RunWriter(tmp_path)

    def observe(event: Event) -> None:
        events.append(event)
        writer(event)

    train(spec, tmp_path, client, on_event=observe)
    writer.close()
    lines = list(journal.read(tmp_path / QUESTIONS_FILE))
    asked = [line["question"] for line in lines[:3]]
    expected = held_out(make_task(spec.task, spec.seed), None, 3, "validation")
    assert asked == [example.prompt for example in expected]
    assert [line["step"] for line in lines] == [step for step in (0, 2, 4, STEPS) for _ in range(3)]
    assert [line["question"] for line in lines] == asked * 4
    assert all([message["node"] for message in line["messages"]] == ["n1", "n2"] for line in lines)
    assert {message["adapter"].rpartition("-")[2] for line in lines[3:6] for message in line["messages"]} == {"v2"}
    final = next(event for event in events if isinstance(event, Evaluated) and event.mode == "greedy")
    assert sum(line["reward"] for line in lines[-3:]) <= final.correct


def test_an_evaluation_at_a_checkpoint_asks_them_once(client: LocalRolloutClient, tmp_path: Path) -> None:
    spec = stage_spec({"evaluation": {"examples": 4, "every": 2}}, steps=4)
    asked: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, QuestionsAsked):
            asked.append(event.step)

    train(spec, tmp_path, client, on_event=note, attempt=1)
    assert asked == [0, 2, 4]


def test_a_run_that_keeps_no_messages_asks_nothing_for_them(client: LocalRolloutClient, tmp_path: Path) -> None:
    spec = stage_spec({"tracking": {"rollouts_per_sample": 0}}, steps=2)
    asked: list[Event] = []
    train(spec, tmp_path, client, on_event=asked.append, attempt=2)
    assert not [event for event in asked if isinstance(event, QuestionsAsked)]
