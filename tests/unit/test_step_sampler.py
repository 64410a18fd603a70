"""The step sampler against a client that records what it is asked and answers by rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from neuromas.adapters.ref import AdapterRef
from neuromas.errors import RolloutError
from neuromas.growth.stage import Stage
from neuromas.rollout.client import Ticket
from neuromas.rollout.record import Group, Rollout
from neuromas.rollout.stats import RolloutStats
from neuromas.spec.run import RunSpec
from neuromas.tasks.chain import ChainTask
from neuromas.topology.document import topology_from_document
from neuromas.training.peers import Alone, Peers
from neuromas.training.sampler import StepSampler
from neuromas.training.workplace import Workplace

GRAPH = topology_from_document({"chain": 2})
ALONE = Alone()


@dataclass
class RuleClient:
    """Rollouts of examples whose number is odd all get reward 1, the others alternate 0 and 1."""

    failure: str | None = None
    failing: int = 1_000_000
    """How many rollouts of a batch fail, where there is a failure."""
    log: list[tuple[str, Any]] = field(default_factory=list)
    batches: list[Any] = field(default_factory=list)
    held: set[AdapterRef] = field(default_factory=set)
    last_stats: RolloutStats = field(default_factory=RolloutStats)

    def publish(self, adapters: Any, retire: Any = ()) -> None:
        self.held = self.held - set(retire) | set(adapters)
        self.log.append(("publish", ([str(ref) for ref in adapters], [str(ref) for ref in retire])))

    def submit(self, batch: Any) -> Ticket:
        self.batches.append(batch)
        self.log.append(("submit", batch.provenance.step))
        return Ticket(len(self.batches) - 1)

    def collect(self, ticket: Ticket) -> list[Group]:
        batch = self.batches[ticket.number]
        assert set(batch.adapters.values()) <= self.held, "a lost part could not be rolled out again"
        self.log.append(("collect", batch.provenance.step))
        self.last_stats = RolloutStats(rollouts=len(batch.examples) * batch.group_size)
        return [
            Group(example, tuple(self._rollouts(batch, example, self.failing - place * batch.group_size)))
            for place, example in enumerate(batch.examples)
        ]

    def _rollouts(self, batch: Any, example: Any, failing: int) -> list[Rollout]:
        odd = int(example.id.rsplit("-", 1)[-1].rsplit("/", 1)[-1]) % 2
        failures = [self.failure if k < failing else None for k in range(batch.group_size)]
        return [
            Rollout("hash", batch.provenance, example, k, 0, (), "", 1.0 if odd else float(k % 2), failure)
            for k, failure in enumerate(failures)
        ]

    def close(self) -> None:
        pass


def make(
    client: RuleClient, peers: Peers = ALONE, prompts: int = 4, level: int | None = None, **training: Any
) -> StepSampler:
    settings = {"prompts_per_step": prompts, "group_size": 2, "max_failed_fraction": 0.5} | training
    document = {"name": "run", "topology": {"chain": 2}, "task": {"type": "chain", "hops": 3}, "seed": 7}
    spec = RunSpec.model_validate({**document, "training": settings})
    weights = dict.fromkeys(GRAPH.adapters)
    place = Workplace(spec, Path("run"), client, lambda event: None, peers)
    return StepSampler(place, Stage("main", 0, GRAPH, 8, level), ChainTask(hops=3, seed=0), lambda: weights, cursor=0)


def numbers(step: Any) -> list[int]:
    return [int(group.example.id.rsplit("-", 1)[-1].rsplit("/", 1)[-1]) for group in step.groups]


def test_in_step_every_batch_is_sampled_with_the_version_of_its_step():
    client = RuleClient()
    sampler = make(client)
    steps = [sampler.sample(step) for step in range(2)]
    assert [step.version for step in steps] == [0, 1]
    assert [numbers(step) for step in steps] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert client.log[0] == ("publish", (["run/main/n1-v0", "run/main/n2-v0"], []))
    assert client.log[3] == ("publish", (["run/main/n1-v1", "run/main/n2-v1"], ["run/main/n1-v0", "run/main/n2-v0"]))
    assert sampler.cursor == 8


def test_one_step_ahead_the_next_batch_is_submitted_before_this_one_is_trained_on():
    client = RuleClient()
    sampler = make(client)
    steps = [sampler.sample(step, ahead=step < 2) for step in range(4)]
    assert [step.version for step in steps] == [0, 0, 1, 3]
    assert [event for event in client.log if event[0] != "publish"] == [
        ("submit", 0), ("collect", 0), ("submit", 1), ("collect", 1), ("submit", 2), ("collect", 2),
        ("submit", 3), ("collect", 3),
    ]  # fmt: skip
    assert [numbers(step)[0] for step in steps] == [0, 4, 8, 12]


def test_an_evaluation_retires_no_version_that_rollouts_under_way_name():
    """A worker lost until they are collected has its share rolled out again, by the adapters that the batch names."""
    client = RuleClient()
    sampler = make(client)
    steps = []
    for step in range(4):
        steps.append(sampler.sample(step, ahead=step < 3))
        sampler.publish(step + 1)  # the trainer has moved: its new weights are evaluated
        (example, *_) = (group.example for group in steps[-1].groups)
        sampler.rollouts([example], greedy=True, step=0, seed=0)
    assert [step.version for step in steps] == [0, 0, 1, 2]
    assert [numbers(step)[0] for step in steps] == [0, 4, 8, 12]
    assert len(client.held) == 2


@dataclass
class Peer(Alone):
    """One of several processes, at whose side the others do nothing."""

    rank: int = 0
    size: int = 1
    log: list[tuple[str, Any]] = field(default_factory=list)

    def gather(self, item: Any) -> list[Any]:
        return [item if rank == self.rank else type(item)() for rank in range(self.size)]

    def wait(self) -> None:
        self.log.append(("wait", self.rank))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_processes_take_turns_at_the_examples(rank):
    client = RuleClient(held={AdapterRef(name, step, "run/main") for name in GRAPH.adapters for step in range(2)})
    sampler = make(client, Peer(rank, 3, client.log), prompts=6)
    assert [numbers(sampler.sample(step)) for step in range(2)] == [[rank, rank + 3], [rank + 6, rank + 9]]


def test_a_version_retires_once_all_processes_have_what_it_sampled():
    client = RuleClient()
    sampler = make(client, Peer(0, 2, client.log))
    for step in range(2):
        sampler.sample(step, ahead=step == 0)
    assert [event[0] for event in client.log] == [
        "wait", "publish", "wait", "submit", "collect", "submit", "collect", "wait", "publish", "wait",
    ]  # fmt: skip


def test_draining_puts_the_examples_back():
    client = RuleClient()
    sampler = make(client)
    sampler.sample(0, ahead=True)
    sampler.drain()
    assert sampler.cursor == 4
    assert numbers(sampler.sample(1)) == [4, 5, 6, 7]


def test_useless_groups_are_replaced_by_further_examples():
    client = RuleClient()
    step = make(client, refill_rounds=2).sample(0)
    assert numbers(step) == [0, 4, 2, 6]
    assert step.refilled == 2
    assert step.stats.rollouts == 2 * (4 + 2 + 1)


def test_training_samples_groups_of_the_stage_s_level_and_an_evaluation_asks_each_question_once() -> None:
    client, task = RuleClient(), ChainTask(hops=3, seed=0)
    sampler = make(client, level=2)
    sampler.sample(0)
    question = task.example("test", 0, 2)
    sampler.rollouts([question], greedy=True, step=0, seed=5)
    training, evaluation = client.batches
    assert training.examples == tuple(task.example("train", index, 2) for index in range(4))
    assert (training.group_size, training.greedy, training.seed) == (2, False, 7)
    assert evaluation.examples == (question,)
    assert (evaluation.group_size, evaluation.greedy, evaluation.seed) == (1, True, 5)


def test_counterfactual_credit_has_an_anchor_and_replays_of_each_node_in_place_of_the_group() -> None:
    client = RuleClient()
    make(client, credit="counterfactual", group_size=5).sample(0)
    (batch,) = client.batches
    assert (batch.group_size, batch.replays, batch.rollouts_per_example) == (1, 4, 1 + 4 * 2)


def test_rollouts_of_another_step_are_never_taken_for_this_one_s() -> None:
    sampler = make(RuleClient())
    sampler.sample(0, ahead=True)
    with pytest.raises(RolloutError, match="ahead for step 1, but step 2"):
        sampler.sample(2)


def test_too_many_failures_stop_the_run():
    with pytest.raises(RolloutError, match=r"8 of 8.*engine on fire"):
        make(RuleClient(failure="engine on fire")).sample(0)


def test_as_many_failures_as_are_allowed_pass_and_one_more_does_not() -> None:
    assert len(make(RuleClient("engine on fire", failing=4)).sample(0).groups) == 4
    with pytest.raises(RolloutError, match=r"5 of 8 rollouts failed, allowed is a share of 0\.5 "):
        make(RuleClient("engine on fire", failing=5)).sample(0)
