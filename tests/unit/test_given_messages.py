"""Messages that are given: their nodes are not asked, and the others go on from what they say."""

from __future__ import annotations

import pytest
from word_batches import TASK, make_batch, tokens

from neuromas.base.symbols import symbols
from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import RolloutError
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import EngineCall
from neuromas.rollout.prompt import Renderer
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.question import Question, TooLongError
from neuromas.spec.parts import SamplingSpec
from neuromas.topology.graph import Node, Topology

NAMES = ("a", "b", "mid", "out")
GRAPH = Topology(tuple(map(Node, NAMES)), (("a", "mid"), ("mid", "out"), ("b", "out")), "out")


def node_of(call: EngineCall) -> str:
    return call.id.split(".", 1)[1]


def engine(asked: list[str]) -> ScriptedEngine:
    def respond(call: EngineCall) -> tuple[int, ...]:
        asked.append(node_of(call))
        return tokens(str(NAMES.index(node_of(call))))

    return ScriptedEngine(respond, max_model_len=64)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, ["a", "b", "mid", "out"]),
        ({"a": "7", "b": "1"}, ["mid", "out"]),
        ({"mid": "7"}, ["a", "b", "out"]),
        ({"a": "0", "b": "1", "mid": "7"}, ["out"]),
    ],
)
def test_only_the_other_nodes_are_asked_and_they_read_what_is_given(
    renderer: Renderer, given: dict[str, str], left: list[str]
) -> None:
    asked: list[str] = []
    (group,) = Dataflow(engine(asked), renderer).run(TASK, make_batch(GRAPH, given=given))
    (rollout,) = group.rollouts
    assert sorted(asked) == sorted(left)
    assert {call.node: call.text for call in rollout.calls} == dict(zip(NAMES, "0123", strict=True)) | given
    assert [call.node for call in rollout.calls] == list(GRAPH.order)
    read = [symbols()[token] for token in rollout.calls[-1].prompt_token_ids]
    heard = [read[place + 1] for place, word in enumerate(read) if word == ":" and place > read.index("@")]
    assert sorted(heard) == sorted([given.get("b", "1"), given.get("mid", "2")])


@pytest.mark.parametrize("node", ["out", "nobody", ""])
def test_the_output_and_unknown_nodes_are_refused(renderer: Renderer, node: str) -> None:
    with pytest.raises(RolloutError, match="no such node, or it is the output 'out'"):
        make_batch(GRAPH, given={node: "7"})
    server = GraphServer(lambda: engine([]))
    try:
        server.put(graph(renderer)).result(20)
        with pytest.raises(RolloutError, match="no such node"):
            server.ask(Question("g", "find", messages={node: "7"}))
        assert server.ask(Question("g", "find", messages={"a": "7"})).result(20).rollout.calls[0].text == "7"
    finally:
        server.close()


def test_a_message_that_is_longer_than_the_context_is_refused_before_the_engine_sees_it(renderer: Renderer) -> None:
    server = GraphServer(lambda: engine([]))
    try:
        server.put(graph(renderer)).result(20)
        question = Question("g", "find", messages={"a": "7 " * 100})
        assert server.may_be_too_long(question)
        with pytest.raises(TooLongError, match="the message has more tokens"):
            server.check_length(question)
    finally:
        server.close()


def graph(renderer: Renderer) -> ServableGraph:
    return ServableGraph("g", GRAPH, dict.fromkeys(GRAPH.adapters), SamplingSpec(max_tokens=4), renderer)
