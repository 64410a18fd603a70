"""A stage that was killed and resumed ends with the weights of one that was not."""

from __future__ import annotations

import json
import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_apart
from resumed_stage import STEPS, make_client, stage_spec, train, train_and_die

from neuromas.checkpoints.checkpoint import read_checkpoint
from neuromas.checkpoints.location import FOLDER, read_state, resolve_checkpoint
from neuromas.errors import CheckpointError
from neuromas.growth.triggers import Plateau, Steps
from neuromas.journal.events import Event, StepDone
from neuromas.rollout.client import LocalRolloutClient
from neuromas.topology.graph import Topology


@pytest.fixture(scope="module")
def client() -> LocalRolloutClient:
    return make_client(stage_spec())


@pytest.fixture(scope="module")
def whole(client: LocalRolloutClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a stage that ran through."""
    return train(stage_spec(), tmp_path_factory.mktemp("whole"), client).checkpoint


def assert_same(first: Path, second: Path) -> None:
    one, two = read_checkpoint(first), read_checkpoint(second)
    for name in ("adapters", "moments"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.counts == two.counts
    for key in ("step", "cursor", "baseline", "checks", "spending", "accuracy"):
        assert one.state[key] == two.state[key], key


def test_kill_and_resume_with_replays(client: LocalRolloutClient, tmp_path: Path) -> None:
    spec = stage_spec(credit="counterfactual", overlap=1)
    assert run_apart(train_and_die, tmp_path / "killed", "step", spec) == -signal.SIGKILL
    saved = resolve_checkpoint(tmp_path / "killed")
    resumed = train(spec, tmp_path / "killed", client, resume=saved, attempt=next(attempts))
    whole = train(spec, tmp_path / "whole", client, attempt=next(attempts))
    assert_same(resumed.checkpoint, whole.checkpoint)
    assert whole.spending.calls == STEPS * 4 * (2 + 3 * 3)


@pytest.mark.parametrize(("where", "saved"), [("step", 4), ("save", 2)])
def test_kill_and_resume(client: LocalRolloutClient, whole: Path, tmp_path: Path, where: str, saved: int) -> None:
    assert run_apart(train_and_die, tmp_path, where, stage_spec()) == -signal.SIGKILL
    checkpoint = resolve_checkpoint(tmp_path)
    assert read_state(checkpoint)["step"] == saved
    result = train(stage_spec(), tmp_path, client, resume=checkpoint, attempt=saved)
    assert not list((tmp_path / FOLDER).glob(".draft*"))
    assert_same(result.checkpoint, whole)


attempts = count(100)  # versions are published once in the life of an engine


class CrashError(Exception):
    pass


@pytest.mark.parametrize(
    "settings",
    [
        {"overlap": 1},
        {"estimator": "reinforce", "num_iterations": 2, "old_logprobs": "trainer"},
        {"refill_rounds": 1, "entropy": {"start": 0.01}},
        {"credit": "counterfactual", "refill_rounds": 1, "num_iterations": 2},
    ],
    ids=["overlap", "reinforce_iterations", "refill_entropy", "counterfactual_refill_iterations"],
)
def test_crash_and_resume_with(client: LocalRolloutClient, tmp_path: Path, settings: dict[str, Any]) -> None:
    spec = stage_spec(**settings)
    steps: list[StepDone] = []

    def crash(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            raise CrashError

    def note(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event)

    with pytest.raises(CrashError):
        train(spec, tmp_path / "crashed", client, on_event=crash, attempt=next(attempts))
    saved = resolve_checkpoint(tmp_path / "crashed")
    resumed = train(spec, tmp_path / "crashed", client, resume=saved, on_event=note, attempt=next(attempts))
    whole = train(spec, tmp_path / "whole", client, on_event=note, attempt=next(attempts))
    assert [event.step for event in steps] == [5, 6, 1, 2, 3, 4, 5, 6]
    assert_same(resumed.checkpoint, whole.checkpoint)
    again, first = ([{**event.metrics} for event in part] for part in (steps[:2], steps[-2:]))
    timed = [name for name in first[0] if "time" in name or name in ("trl/epoch", "trl/step_time")]
    for metrics in (*again, *first):
        for name in timed:
            metrics.pop(name, None)
        assert metrics["trl/loss"] == pytest.approx(metrics["train/loss"])
    assert again == first


def test_a_stage_that_a_trigger_ended_is_over_when_it_is_resumed(client: LocalRolloutClient, tmp_path: Path) -> None:
    """The process died between the stage's last checkpoint and the record of the stage."""
    trigger = Steps(2)
    ended = train(stage_spec(), tmp_path, client, trigger=trigger, attempt=next(attempts))
    assert (ended.steps, ended.reason) == (2, "steps")
    resumed = train(stage_spec(), tmp_path, client, trigger=trigger, resume=ended.checkpoint, attempt=next(attempts))
    assert (resumed.steps, resumed.reason, resumed.accuracy) == (2, "steps", ended.accuracy)
    assert_same(resumed.checkpoint, ended.checkpoint)


def test_checks_from_before_a_crash_count_after_it(client: LocalRolloutClient, tmp_path: Path) -> None:
    """No check can beat the first one by as much as all there is, so the fourth after it ends the stage."""
    trigger = Plateau(patience=4, min_improvement=1.0, every=1, examples=4)

    def crash(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise CrashError

    with pytest.raises(CrashError):
        train(stage_spec(), tmp_path, client, trigger=trigger, on_event=crash, attempt=next(attempts))
    saved = resolve_checkpoint(tmp_path)
    resumed = train(stage_spec(), tmp_path, client, trigger=trigger, resume=saved, attempt=next(attempts))
    assert (resumed.steps, resumed.reason) == (5, "plateau")
    assert [check.step for check in resumed.checks] == [1, 2, 3, 4, 5]
    assert resumed.spending.check_calls == 5 * 4 * 2


def test_a_stage_is_not_resumed_from_another_one(client: LocalRolloutClient, whole: Path, tmp_path: Path) -> None:
    other = stage_spec()
    state = json.loads((whole / "state.json").read_text())
    assert state["name"] == "main"
    first = other.topology.nodes[0]
    single = other.model_copy(update={"topology": Topology(nodes=(first,), edges=(), output=first.id)})
    with pytest.raises(CheckpointError, match="another graph"):
        train(single, tmp_path, client, resume=whole)
