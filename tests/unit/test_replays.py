"""Replays: one node is asked anew in the context of the anchor, with what its message reaches; the rest is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from word_batches import make_batch, tokens

from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import EngineError, RolloutError
from neuromas.journal.events import RolloutsSampled
from neuromas.rollout.dataflow import Dataflow, rollout_seed
from neuromas.rollout.engine import EngineCall
from neuromas.rollout.record import Group
from neuromas.rollout.renderer import Renderer
from neuromas.spec.credit import calls_per_example, rollouts_per_example
from neuromas.spec.training import TrainingSpec
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import chain
from neuromas.topology.graph import Node, Topology
from neuromas.training.calls import call_rows

TASK = ChainTask(hops=2)
GRAPH = Topology(tuple(map(Node, ("a", "b", "mid", "out"))), (("a", "mid"), ("mid", "out"), ("b", "out")), "out")
NODES = GRAPH.order


def place_of(call: EngineCall) -> tuple[int, str]:
    """The index of the rollout, of examples with nine each, and the node."""
    key, node = call.id.split(".", 1)
    return int(key) % 9, node


def says_its_index(call: EngineCall) -> tuple[int, ...]:
    return tokens(str(place_of(call)[0]))


def replays_of(group: Group) -> dict[int, str | None]:
    return {rollout.index: rollout.replayed for rollout in group.rollouts}


def test_a_replay_keeps_every_message_that_its_node_does_not_reach(renderer: Renderer) -> None:
    engine = ScriptedEngine(says_its_index)
    groups = Dataflow(engine, renderer).run(TASK, make_batch(GRAPH, examples=2, replays=2))
    for group in groups:
        assert replays_of(group) == dict(enumerate([None, "a", "a", "b", "b", "mid", "mid", "out", "out"]))
        anchor = group.rollouts[0]
        said = {r.index: " ".join(call.text for call in r.calls) for r in group.rollouts}
        assert said == {
            0: "0 0 0 0",
            1: "1 0 1 1",
            2: "2 0 2 2",
            3: "0 3 0 3",
            4: "0 4 0 4",
            5: "0 0 5 5",
            6: "0 0 6 6",
            7: "0 0 0 7",
            8: "0 0 0 8",
        }
        for rollout in group.rollouts[1:]:
            asked = [call.node for call in rollout.calls if call.completion_token_ids]
            assert asked == [node for node in NODES if node in {rollout.replayed, *GRAPH.downstream(rollout.replayed)}]
            own, of_anchor = (next(c for c in r.calls if c.node == rollout.replayed) for r in (rollout, anchor))
            assert own.prompt_token_ids == of_anchor.prompt_token_ids
    asked_for = [place_of(call)[1] for _, call in engine.history]
    counted = calls_per_example(TrainingSpec(group_size=3, credit="counterfactual"), GRAPH)
    assert counted == {"a": 3, "b": 3, "mid": 5, "out": 9}
    assert {node: asked_for.count(node) for node in NODES} == {node: 2 * count for node, count in counted.items()}
    assert rollouts_per_example(TrainingSpec(group_size=3, credit="counterfactual"), GRAPH) == 9


def test_replays_have_seeds_of_their_own_and_are_the_same_whole_or_split(renderer: Renderer) -> None:
    batch = make_batch(GRAPH, examples=2, replays=2)
    engine = ScriptedEngine(lambda call: tokens(str((call.sampling.seed or 0) % 10)))
    whole = Dataflow(engine, renderer).run(TASK, batch)
    seeds = [rollout.seed for group in whole for rollout in group.rollouts]
    expected = [rollout_seed(3, batch.provenance, e.id, index) for e in batch.examples for index in range(9)]
    assert seeds == expected
    assert len(set(seeds)) == 18
    alone = [Dataflow(engine, renderer).run(TASK, replace(batch, examples=(e,))) for e in batch.examples]
    texts = [[[call.text for call in r.calls] for r in group.rollouts] for group in whole]
    assert [[[call.text for call in r.calls] for r in group.rollouts] for (group,) in alone] == texts


def test_an_anchor_that_fails_has_no_replays_and_a_replay_fails_alone(renderer: Renderer) -> None:
    def respond(call: EngineCall) -> tuple[int, ...]:
        if call.id in ("0.mid", "14.mid"):
            raise EngineError("refused")
        return says_its_index(call)

    groups = Dataflow(ScriptedEngine(respond), renderer).run(TASK, make_batch(GRAPH, examples=2, replays=2))
    assert [len(group.rollouts) for group in groups] == [1, 9]
    assert [[r.index for r in group.rollouts if r.failure is not None] for group in groups] == [[0], [5]]
    rows = call_rows(groups, NODES, context_size=3)
    assert rows.present_by_place[0, 0].tolist() == [True, True, False, False]
    assert not rows.present_by_place[0, 1:].any()
    assert rows.present_by_place[1].tolist() == [[True] * 4, [True, True, False, True], [True] * 4]
    assert rows.failed.tolist() == [True, *[False] * 5, True, False, False, False]
    assert (rows.rewards[0] == 0).all()


def test_rows_are_a_node_s_own_calls_in_the_anchor_and_in_its_replays(renderer: Renderer) -> None:
    (group,) = Dataflow(ScriptedEngine(says_its_index), renderer).run(TASK, make_batch(GRAPH, replays=2))
    marked = Group(group.example, tuple(replace(r, reward=r.index / 10) for r in group.rollouts))
    rows = call_rows([marked], NODES, context_size=3)
    told = [(call.node, call.text) for call in rows.calls if call is not None]
    assert told == [
        *[("a", "0"), ("a", "1"), ("a", "2")],
        *[("b", "0"), ("b", "3"), ("b", "4")],
        *[("mid", "0"), ("mid", "5"), ("mid", "6")],
        *[("out", "0"), ("out", "7"), ("out", "8")],
    ]
    assert rows.per_row(rows.rewards).tolist() == [int(text) / 10 for _, text in told]
    assert rows.outcomes.tolist() == [index / 10 for index in range(9)]


def test_a_record_names_the_node_that_was_replayed(renderer: Renderer) -> None:
    (group,) = Dataflow(ScriptedEngine(says_its_index), renderer).run(TASK, make_batch(GRAPH, replays=1))
    lines = RolloutsSampled(stage=0, step=1, rollouts=group.rollouts).to_documents()
    assert [line.get("replayed") for line in lines] == [None, *NODES]


@pytest.mark.parametrize("changes", [{"group_size": 2}, {"given": {"a": "7"}}])
def test_replays_of_several_rollouts_or_of_given_messages_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RolloutError, match="replays have one anchor that asks every node; got group_size"):
        make_batch(GRAPH, replays=1, **changes)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_chain_costs_what_the_documentation_says(length: int) -> None:
    training = TrainingSpec(group_size=8, credit="counterfactual")
    calls = sum(calls_per_example(training, chain(length)).values())
    assert calls == length + 7 * length * (length + 1) // 2
    assert sum(calls_per_example(TrainingSpec(), chain(length)).values()) == 8 * length
