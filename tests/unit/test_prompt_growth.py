"""What a trained node reads does not change when the graph grows around it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letter_base import CHATML, CHATML_TOKENS, spelled, write_letter_base

from neuromas.errors import GrowthError, TopologyError
from neuromas.growth.plan import apply_plan
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.spec.growth import AppendSpec, PlanSpec
from neuromas.spec.parts import DemonstrationSpec, PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology import builders, edits
from neuromas.topology.graph import Topology

EXAMPLE = Example("x", "start 2 find E=", "E= 7")
EDITS: dict[str, Callable[[Topology], Topology]] = {
    "append": lambda graph: edits.append(graph, (2, 1)).topology,
    "before_output": lambda graph: edits.before_output(graph, 2).topology,
    "widen": lambda graph: edits.widen(graph, 1, 2).topology,
    "deepen": lambda graph: edits.deepen(graph, 1).topology,
    "graft": lambda graph: edits.graft(graph).topology,
    "graft_modules": lambda graph: edits.graft_modules([graph, builders.chain(2)]).topology,
    "series": lambda graph: edits.graft_modules([graph, builders.chain(2)], "series").topology,
    "connect": lambda graph: edits.connect(graph, [(graph.order[0], graph.output)]).topology,
    "prune": lambda graph: edits.prune(graph, [graph.order[0]]).topology,
}


@pytest.fixture(scope="module")
def renderers(word_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    plain = write_letter_base(tmp_path_factory.mktemp("plain"))
    chat = write_letter_base(tmp_path_factory.mktemp("chat"), CHATML_TOKENS, CHATML)
    told = PromptSpec(instruction="{layer} {index} of {depth} x {width}: {max_tokens}", answer_format="one word")
    return {
        "compact": make_renderer(PromptSpec(), word_base),
        "plain": make_renderer(PromptSpec(), plain),
        "instruction": make_renderer(told, plain),
        "chat": make_renderer(PromptSpec(), chat),
    }


def prompt(renderer: Renderer, graph: Topology, node: str) -> tuple[int, ...]:
    signals = [(sender, f"so A= {place} .") for place, sender in enumerate(graph.predecessors(node))]
    return renderer.render(graph, node, EXAMPLE, signals, max_tokens=8)


@settings(max_examples=150)
@given(
    st.builds(builders.random, st.integers(1, 5), st.floats(0, 1), st.integers(0, 99)),
    st.lists(st.sampled_from(sorted(EDITS)), min_size=1, max_size=3),
    st.sampled_from(["compact", "plain", "instruction", "chat"]),
)
def test_no_edit_changes_what_an_untouched_node_reads(
    renderers: dict[str, Renderer], graph: Topology, steps: list[str], name: str
) -> None:
    renderer = renderers[name]
    trained = {node: (graph.predecessors(node), prompt(renderer, graph, node)) for node in graph.order}
    for step in steps:
        try:
            graph = EDITS[step](graph)
        except GrowthError:
            continue  # a single layer is not widened, an edge is there already, a pruned graph falls apart
        for node in trained.keys() & set(graph.order):
            senders, ids = trained[node]
            if graph.predecessors(node) != senders:
                continue
            assert prompt(renderer, graph, node) == ids, (step, node)
        try:
            trained = {node: (graph.predecessors(node), prompt(renderer, graph, node)) for node in graph.order}
        except TopologyError:
            return  # the word base has 16 positions


def test_an_appended_graph_asks_its_old_output_for_the_answer_as_before(tmp_path: Path) -> None:
    renderer = make_renderer(PromptSpec(renderer="plain"), write_letter_base(tmp_path))
    grown = edits.append(builders.chain(1)).topology
    old = spelled(renderer.render(grown, "n1", EXAMPLE, [], max_tokens=8))
    assert "The network has 1 layers" in old
    assert old.endswith("Write the answer to the task, in at most 8 tokens.\n\nTask:\nstart 2 find E=\n\nAnswer:")
    new = spelled(renderer.render(grown, "n2", EXAMPLE, [("n1", "7")], max_tokens=8))
    assert "The network has 3 layers" in new
    assert new.endswith("Message from layer 1, position 1:\n7\n\nMessage:")
    output = spelled(renderer.render(grown, "n3", EXAMPLE, [("n2", "7")], max_tokens=8))
    assert output.endswith("\n\nAnswer:")


def test_an_old_node_goes_on_reading_the_worked_examples_of_the_level_it_was_trained_on(tmp_path: Path) -> None:
    worked = tuple(DemonstrationSpec(question=f"q{level}", answer=f"a{level}", level=level) for level in (1, 2, 3))
    renderer = make_renderer(
        PromptSpec(renderer="plain", instruction="", demonstrations=worked), write_letter_base(tmp_path)
    )
    plan = PlanSpec(edits=(AppendSpec(edit="append", layers=(1,)),))

    def text(graph: Topology, node: str, level: int) -> str:
        example = Example("x", "q", "a", level)
        return spelled(renderer.render(graph, node, example, [(sender, "m") for sender in graph.predecessors(node)], 8))

    first = builders.chain(1)
    second = apply_plan(first, plan, examples_of=1).topology
    third = apply_plan(second, plan, examples_of=2).topology
    assert text(first, "n1", 1) == "Task:\nq1\n\nAnswer: a1\n\nTask:\nq\n\nAnswer:"
    assert text(second, "n1", 2) == text(third, "n1", 3) == text(first, "n1", 1)
    assert "Answer: a2\n\nTask:\nq\n" in text(second, "n2", 2)
    assert text(third, "n2", 3) == text(second, "n2", 2)
    assert "Answer: a3\n\nTask:\nq\n" in text(third, "n3", 3)
