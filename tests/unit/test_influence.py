import re
from dataclasses import replace
from pathlib import Path

import pytest

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.symbols import symbols
from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import RolloutError, TopologyError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import Ticket
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import EngineCall
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Group, Provenance
from neuromas.rollout.stats import RolloutStats
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.studies.analyze import analyze
from neuromas.studies.influence import Changes, knock_out, num_changes
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import chain
from neuromas.topology.document import topology_from_document

WORDS = symbols()
TASK = ChainTask(hops=2)
TOPOLOGY = chain(3)
REFS = {name: AdapterRef(name, 0, "test") for name in TOPOLOGY.adapters}


class EngineClient:
    """The client of one engine in this process."""

    def __init__(self, engine: ScriptedEngine, base: Path) -> None:
        self.engine = engine
        self.renderer = make_renderer(PromptSpec(), base)
        self.groups: list[Group] = []
        self.last_stats = RolloutStats()

    def publish(self, adapters, retire=()) -> None:  # type: ignore[no-untyped-def]
        self.engine.publish(adapters, retire)

    def submit(self, batch: RolloutBatch) -> Ticket:
        self.groups = Dataflow(self.engine, self.renderer).run(TASK, batch)
        return Ticket(0)

    def collect(self, ticket: Ticket) -> list[Group]:
        return self.groups

    def close(self) -> None:
        self.engine.close()


def respond(call: EngineCall) -> list[int]:
    """n1's adapter states the first hop, n2's the hop after the one it is told, n3's repeats what it is told."""
    question, *told = " ".join(WORDS[token] for token in call.prompt_token_ids).split(" | ")
    successor = dict(re.findall(r"(\d+): (\d+)", question))
    facts = re.findall(r"([AB]=) (\d+)", " ".join(told))
    name, value = facts[-1] if facts else ("", "")
    match call.adapter.name if call.adapter else "":
        case "n1":
            text = f"so A= {successor[question.split()[question.split().index('start') + 1]]} ."
        case "n2" if name == "A=":
            text = f"so B= {successor[value]} ."
        case "n3" if name:
            text = f"so {name} {value} ."
        case _:
            text = "so"
    return [WORDS.index(word) for word in text.split()]


@pytest.fixture
def client(word_base: Path) -> EngineClient:
    engine = ScriptedEngine(respond)
    engine.publish({ref: PlainLora(1, {}) for ref in REFS.values()})
    return EngineClient(engine, word_base)


def batch() -> RolloutBatch:
    return RolloutBatch(
        topology=TOPOLOGY,
        examples=tuple(TASK.example("test", index) for index in range(8)),
        group_size=1,
        adapters=REFS,
        sampling=SamplingSpec(max_tokens=8),
        greedy=True,
        seed=0,
        provenance=Provenance("run", 0, 0),
        task=TASK,
    )


def test_a_knocked_out_node_has_room_for_one_token() -> None:
    assert [node.max_tokens for node in knock_out(TOPOLOGY, "n2").nodes] == [None, 1, None]
    with pytest.raises(TopologyError, match="n9"):
        knock_out(TOPOLOGY, "n9")


def test_cutting_off_a_message_on_the_only_way_costs_everything(client: EngineClient) -> None:
    changes = Changes(client, batch())
    assert changes.accuracy.value == 1.0
    assert changes.hidden == ("n1", "n2")
    assert [changes.cut(node).effect.gain for node in changes.hidden] == [-1.0, -1.0]


def test_what_was_said_about_another_question_is_wrong_for_this_one(client: EngineClient) -> None:
    changes = Changes(client, batch())
    answers = [group.example.answer for group in changes.groups]
    right = sum(one == other for one, other in zip(answers, (answers[-1], *answers[:-1]), strict=True))
    assert changes.shuffled("n2").accuracy.value == right / len(answers)


def test_the_bare_base_says_nothing_here(client: EngineClient) -> None:
    changes = Changes(client, batch())
    assert [changes.untrained(node).effect.gain for node in ("n1", "n2", "n3")] == [-1.0, -1.0, -1.0]


def test_a_silent_edge_changes_what_its_reader_reads_and_not_what_was_said(client: EngineClient) -> None:
    changes = Changes(client, batch())
    assert changes.edge("n1", "n2").effect.gain == -1.0
    told = [call.text for group in client.groups for call in group.rollouts[0].calls if call.node == "n1"]
    assert told == [call.text for group in changes.groups for call in group.rollouts[0].calls if call.node == "n1"]
    with pytest.raises(RolloutError, match="n1 -> n3, which is not an edge"):
        changes.edge("n1", "n3")


def test_exchanged_adapters_cost_everything_where_nodes_have_specialised(client: EngineClient) -> None:
    found = Changes(client, batch()).exchanged()
    assert found.change == "n1 <- n2, n2 <- n3, n3 <- n1"
    assert found.effect.gain == pytest.approx(-1.0)


def test_exchange_of_unknown_adapters_is_refused(client: EngineClient) -> None:
    with pytest.raises(TopologyError, match="n9"):
        Changes(client, batch()).exchanged({"n1": "n9"})


def test_analysis_names_the_node_that_nobody_needs(client: EngineClient) -> None:
    # n1 -> n2 -> n3, and "spare", which n3 reads too and which says nothing.
    graph = topology_from_document(
        {
            "nodes": [{"id": "n1"}, {"id": "spare"}, {"id": "n2"}, {"id": "n3"}],
            "edges": [["n1", "n2"], ["n2", "n3"], ["spare", "n3"]],
        }
    )
    asked = replace(batch(), topology=graph, adapters={**REFS, "spare": None})
    done: list[str] = []
    loras = {name: PlainLora(1, {}) for name in REFS}
    found = analyze(client, asked, TASK, loras, lambda groups: {"n1": 2.5}, done.append)
    assert len(done) == num_changes(graph, len(asked.examples)) == 15
    assert [node["node"] for node in found["nodes"] if node["is_idle"]] == ["spare"]
    says = {node["node"]: [label["label"] for label in node["says"]] for node in found["nodes"]}
    assert says == {"n1": ["A"], "spare": [], "n2": ["B"], "n3": ["B"]}
    likely = {node["node"]: node["perplexity"] for node in found["nodes"]}
    assert likely == {"n1": 2.5, "spare": None, "n2": None, "n3": None}
