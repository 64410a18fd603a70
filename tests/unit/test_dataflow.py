from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_batches import PLACE, TASK, WHERE, make_batch, tokens

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.symbols import symbols
from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import EngineError, RolloutError
from neuromas.rollout.batch import Substitution
from neuromas.rollout.dataflow import Dataflow, call_seed, rollout_seed
from neuromas.rollout.engine import EngineCall, EngineResult
from neuromas.rollout.record import Provenance
from neuromas.rollout.renderer import Renderer
from neuromas.spec.parts import SamplingSpec
from neuromas.tasks.base import Example
from neuromas.topology.builders import chain, layered, random
from neuromas.topology.graph import Node, Topology

FORK = Topology(
    tuple(map(Node, ("slow", "fast", "next", "out"))),
    (("fast", "next"), ("next", "out"), ("slow", "out")),
    "out",
)


def node_of(call: EngineCall) -> str:
    return call.id.split(".", 1)[1]


def say(text: str) -> Callable[[EngineCall], Sequence[int]]:
    return lambda call: tokens(text)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert rollout_seed(0, Provenance("any", 0, 0), "chain-5/0/train/0", 0) == 8766004804573953191
    assert call_seed(8766004804573953191, "n1") == 1974309746240517040


def test_a_node_reads_the_messages_of_its_predecessors(renderer: Renderer) -> None:
    answers = {"slow": "1", "fast": "2", "next": "3", "out": "so 4"}
    engine = ScriptedEngine(lambda call: tokens(answers[node_of(call)]))
    (group,) = Dataflow(engine, renderer).run(TASK, make_batch(FORK))
    (rollout,) = group.rollouts
    out = rollout.calls[-1]
    read = " ".join(symbols()[token_id] for token_id in out.prompt_token_ids)
    assert read.endswith("@ L3 N1 | L1 N1 : 1 | L2 N1 : 3 >")
    assert [call.node for call in rollout.calls] == ["slow", "fast", "next", "out"]
    assert out.completion_token_ids == (*tokens("so 4"), PLACE["<eos>"])
    assert out.text == rollout.answer == "so 4"
    assert out.finish_reason == "stop"
    assert out.logprobs == (0.0, 0.0, 0.0)


def test_a_fast_branch_runs_ahead_of_a_slow_one(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("7"), delay=lambda call: 5 if node_of(call) == "slow" else 1)
    Dataflow(engine, renderer).run(TASK, make_batch(FORK))
    assert [(step, node_of(call)) for step, call in engine.history] == [
        (0, "slow"),
        (0, "fast"),
        (1, "next"),
        (5, "out"),
    ]


def test_a_slow_rollout_holds_no_other_back(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("7"), delay=lambda call: 9 if call.id == "0.n1" else 1)
    Dataflow(engine, renderer).run(TASK, make_batch(chain(3), group_size=2))
    submitted = {call.id: step for step, call in engine.history}
    assert submitted == {"0.n1": 0, "1.n1": 0, "1.n2": 1, "1.n3": 2, "0.n2": 9, "0.n3": 10}


def test_calls_ready_together_enter_node_by_node(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("7"))
    Dataflow(engine, renderer).run(TASK, make_batch(layered([2]), examples=2, group_size=2))
    assert [node_of(call) for _, call in engine.history] == ["n1"] * 4 + ["n2"] * 4 + ["n3"] * 4


def test_groups_are_complete_in_order_and_scored_once_each(renderer: Renderer) -> None:
    batch = make_batch(chain(2), examples=3, group_size=4)
    right = batch.examples[1].answer
    engine = ScriptedEngine(say(right), delay=lambda call: 1 + hash(call.prompt_token_ids) % 3)
    groups = Dataflow(engine, renderer).run(TASK, batch)
    assert [group.example for group in groups] == list(batch.examples)
    for group in groups:
        assert [rollout.index for rollout in group.rollouts] == [0, 1, 2, 3]
        assert {rollout.reward for rollout in group.rollouts} == {TASK.score(group.example, right)}
        assert {rollout.topology_hash for rollout in group.rollouts} == {batch.topology.content_hash}
        assert {rollout.provenance for rollout in group.rollouts} == {WHERE}
    assert groups[1].rollouts[0].reward == 1.0


def test_every_call_has_its_own_seed_whatever_shares_the_batch(renderer: Renderer) -> None:
    whole = ScriptedEngine(say("7"))
    batch = make_batch(layered([2]), examples=3, group_size=2)
    Dataflow(whole, renderer).run(TASK, batch)
    seeds = [call.sampling.seed for _, call in whole.history]
    assert len(set(seeds)) == len(seeds) == 18
    part = ScriptedEngine(say("7"))
    Dataflow(part, renderer).run(TASK, replace(batch, examples=batch.examples[2:]))
    assert {call.sampling.seed for _, call in part.history} == {
        call.sampling.seed for _, call in whole.history if call.id.startswith(("4.", "5."))
    }


def test_settings_of_a_node_override_those_of_the_run(renderer: Renderer) -> None:
    topology = Topology((Node("a", max_tokens=2, temperature=0.5, adapter="shared"), Node("b")), (("a", "b"),), "b")
    ref = AdapterRef("shared", 4)
    engine = ScriptedEngine(say("7"))
    engine.publish({ref: PlainLora(1, {})})
    sampling = SamplingSpec(max_tokens=6, temperature=1.5, top_p=0.9)
    batch = make_batch(topology, sampling=sampling, adapters={"shared": ref, "b": None})
    groups = Dataflow(engine, renderer).run(TASK, batch)
    first, second = (call for _, call in engine.history)
    assert (first.sampling.max_tokens, first.sampling.temperature, first.sampling.top_p) == (2, 0.5, 0.9)
    assert (second.sampling.max_tokens, second.sampling.temperature, second.sampling.top_p) == (6, 1.5, 0.9)
    assert [call.adapter for call in groups[0].rollouts[0].calls] == [ref, None]


def test_greedy_overrides_all_temperatures(renderer: Renderer) -> None:
    topology = Topology((Node("a", temperature=0.5), Node("b")), (("a", "b"),), "b")
    engine = ScriptedEngine(say("7"))
    Dataflow(engine, renderer).run(TASK, make_batch(topology, greedy=True, sampling=SamplingSpec(top_p=0.5)))
    assert {(call.sampling.temperature, call.sampling.top_p, call.sampling.seed) for _, call in engine.history} == {
        (0.0, 1.0, None)
    }


def test_an_empty_message_keeps_its_end_token(renderer: Renderer) -> None:
    (group,) = Dataflow(ScriptedEngine(say("")), renderer).run(TASK, make_batch(chain(2)))
    assert [call.completion_token_ids for call in group.rollouts[0].calls] == [(PLACE["<eos>"],)] * 2
    assert [call.text for call in group.rollouts[0].calls] == ["", ""]
    assert group.rollouts[0].failure is None


def test_a_message_cut_at_its_budget_travels_on(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("so A= 3 . so"))
    flow = Dataflow(engine, renderer)
    (group,) = flow.run(TASK, make_batch(chain(2)))
    first, second = group.rollouts[0].calls
    assert (first.finish_reason, first.text) == ("length", "so A= 3 .")
    assert second.prompt_token_ids[-5:] == tokens("so A= 3 . >")
    assert (flow.stats.calls, flow.stats.truncated_calls, flow.stats.generated_tokens) == (2, 2, 8)


def test_a_failed_call_ends_its_rollout_and_no_other(renderer: Renderer) -> None:
    def respond(call: EngineCall) -> Sequence[int]:
        if call.id == "0.fast":
            raise EngineError("out of memory")
        return tokens("7")

    engine = ScriptedEngine(respond, delay=lambda call: 4 if node_of(call) == "slow" else 1)
    flow = Dataflow(engine, renderer)
    (group,) = flow.run(TASK, make_batch(FORK, group_size=2))
    failed, fine = group.rollouts
    assert failed.failure == "node 'fast': out of memory"
    assert failed.reward == 0.0
    assert failed.answer == ""
    (call,) = failed.calls
    assert (call.node, call.finish_reason, call.completion_token_ids, call.error) == (
        "fast",
        "error",
        (),
        "out of memory",
    )
    assert fine.failure is None
    assert len(fine.calls) == 4
    assert not engine.has_unfinished()
    assert (flow.stats.rollouts, flow.stats.failed_rollouts) == (2, 1)


def test_an_over_long_prompt_and_an_unknown_adapter_are_data(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("7"), max_model_len=30)
    (group,) = Dataflow(engine, renderer).run(TASK, make_batch(chain(3)))
    assert [call.finish_reason for call in group.rollouts[0].calls] == ["stop", "error"]
    unknown = {"n1": AdapterRef("n1", 0), "n2": None, "n3": None}
    (group,) = Dataflow(engine, renderer).run(TASK, make_batch(chain(3), adapters=unknown))
    assert group.rollouts[0].failure == "node 'n1': adapter n1-v0 is not published"


NOT_TEXT = Example("half", "find \ud800", "")
"""A question that no tokenizer reads."""


@pytest.mark.parametrize("topology", [chain(2), FORK, Topology((Node("n1"),), (), "n1")])
def test_a_question_that_cannot_be_written_fails_alone_before_the_engine_is_asked(
    renderer: Renderer, topology: Topology
) -> None:
    engine = ScriptedEngine(say("7"))
    fine = TASK.example("train", 0)
    batch = make_batch(topology, group_size=2)
    alone = Dataflow(engine, renderer).run(TASK, replace(batch, examples=(NOT_TEXT,)))
    assert [rollout.reward for rollout in alone[0].rollouts] == [0.0, 0.0]
    assert engine.history == []
    refused, answered = Dataflow(engine, renderer).run(TASK, replace(batch, examples=(NOT_TEXT, fine)))
    rollout = refused.rollouts[0]
    assert rollout.failure == (
        f"node {topology.order[0]!r}: its prompt cannot be written: TypeError: TextInputSequence must be str"
    )
    assert [(call.node, call.finish_reason) for call in rollout.calls] == [(topology.order[0], "error")]
    assert answered.rollouts[0].failure is None
    assert not engine.has_unfinished()


def test_a_prompt_in_the_middle_of_a_graph_that_cannot_be_written_ends_its_rollout_and_no_other(
    renderer: Renderer,
) -> None:
    """The message that makes it so stands in for what a node has said, as in a study of messages."""
    engine = ScriptedEngine(say("7"), delay=lambda call: 9 if node_of(call) == "slow" else 1)
    batch = make_batch(FORK, examples=2)
    instead = {batch.examples[0].id: "\ud800"}
    batch = replace(batch, substitutions=(Substitution("fast", "next", instead),))
    flow = Dataflow(engine, renderer)
    broken, fine = (group.rollouts[0] for group in flow.run(TASK, batch))
    assert broken.failure == "node 'next': its prompt cannot be written: TypeError: TextInputSequence must be str"
    assert [call.node for call in broken.calls] == ["fast", "next"]
    assert broken.reward == 0.0
    assert fine.failure is None
    assert len(fine.calls) == 4
    assert not engine.has_unfinished()
    assert (flow.stats.rollouts, flow.stats.failed_rollouts, flow.stats.calls) == (2, 1, 5)


def test_an_interrupt_leaves_the_engine_empty(renderer: Renderer) -> None:
    def respond(call: EngineCall) -> Sequence[int]:
        if node_of(call) == "n2":
            raise KeyboardInterrupt
        return tokens("7")

    engine = ScriptedEngine(respond, delay=lambda call: 1 + int(call.id.split(".")[0]))
    flow = Dataflow(engine, renderer)
    with pytest.raises(KeyboardInterrupt):
        flow.run(TASK, make_batch(chain(3), group_size=5))
    assert not engine.has_unfinished()
    assert not flow.has_unfinished


def test_batches_can_join_while_others_run(renderer: Renderer) -> None:
    engine = ScriptedEngine(say("7"))
    flow = Dataflow(engine, renderer)
    first = flow.add(TASK, make_batch(chain(3)))
    assert flow.advance() == []
    second = flow.add(TASK, make_batch(chain(1)))
    assert [key for key, _ in flow.advance()] == [second]
    assert [key for key, _ in flow.advance()] == [first]
    assert not flow.has_unfinished


def test_a_batch_must_name_a_version_for_every_adapter() -> None:
    with pytest.raises(RolloutError, match="n2"):
        make_batch(chain(2), adapters={"n1": None})
    with pytest.raises(RolloutError, match="group_size"):
        make_batch(chain(2), group_size=0)


class Recorder(ScriptedEngine):
    """The scripted engine, which also notes at which step every call was returned."""

    returned: dict[str, int]

    def step(self) -> list[EngineResult]:
        results = super().step()
        self.returned.update({result.id: self._step for result in results})
        return results


@settings(max_examples=40, deadline=None)
@given(
    nodes=st.integers(1, 9),
    density=st.floats(0, 1),
    seed=st.integers(0, 1000),
    group_size=st.integers(1, 3),
    delays=st.lists(st.integers(1, 4), min_size=7, max_size=7),
)
def test_every_call_waits_for_its_inputs_and_for_nothing_else(
    renderer: Renderer, nodes: int, density: float, seed: int, group_size: int, delays: list[int]
) -> None:
    topology = random(nodes, density, seed)
    engine = Recorder(say("7"), delay=lambda call: delays[sum(call.id.encode()) % 7])
    engine.returned = {}
    groups = Dataflow(engine, renderer).run(TASK, make_batch(topology, examples=2, group_size=group_size))
    submitted = {call.id: step for step, call in engine.history}
    assert len(submitted) == len(engine.history) == 2 * group_size * nodes
    for key in range(2 * group_size):
        for node in topology.order:
            inputs = [engine.returned[f"{key}.{sender}"] for sender in topology.predecessors(node)]
            assert submitted[f"{key}.{node}"] == max(inputs, default=0)
    for group in groups:
        for rollout in group.rollouts:
            assert tuple(call.node for call in rollout.calls) == topology.order
            assert rollout.failure is None
