"""What nodes of kept rollouts read is written again token for token, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from letter_base import CHATML, CHATML_TOKENS, FIRST_SPECIAL, write_letter_base
from word_batches import TASK, make_batch, tokens

from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import BaseModelError, RolloutError
from neuromas.growth.plan import apply_plan
from neuromas.journal.events import RolloutsSampled
from neuromas.journal.prompts import PromptReader
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Rollout
from neuromas.rollout.renderer import Renderer
from neuromas.spec.growth import AppendSpec, PlanSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.base import Example
from neuromas.topology.builders import layered
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Node, Topology

SAMPLING = SamplingSpec(max_tokens=6)
OWN_BUDGET = Topology(
    (Node("a", max_tokens=3), Node("deaf", reads_task=False), Node("out")),
    (("a", "deaf"), ("a", "out"), ("deaf", "out")),
    "out",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "usual": {},
    "cut signals": {"max_signal_tokens": 2},
    "demonstrations": {
        "demonstrations": [{"question": f"{level}+1?", "answer": "2", "level": level} for level in (1, 2)],
        "answer_format": "a digit",
        "cue": "=",
    },
    "template": {"template": "{layer}.{index} of {depth}, {max_tokens}: {question} | {messages}"},
}


def grown() -> Topology:
    plan = PlanSpec(edits=(AppendSpec(edit="append", layers=(2, 1)),))
    return apply_plan(layered([2, 1]), plan, examples_of=1).topology


def asked(renderer: Renderer, topology: Topology, engine: ScriptedEngine) -> tuple[Rollout, dict[str, Any]]:
    """Ask a graph, and return the rollout with the line that is kept of it."""
    example = replace(TASK.example("train", 0), prompt="start 2 <|im_end|> find E=", level=2)
    batch = replace(make_batch(topology, sampling=SAMPLING), examples=(example,))
    (group,) = Dataflow(engine, renderer).run(TASK, batch)
    (line,) = RolloutsSampled(stage=1, step=7, rollouts=group.rollouts).to_documents()
    return group.rollouts[0], json.loads(json.dumps(line))


def assert_written_again(renderer: Renderer, reader: PromptReader, topology: Topology, engine: ScriptedEngine) -> None:
    rollout, line = asked(renderer, topology, engine)
    kept = topology_from_document(json.loads(json.dumps(topology.to_document())))
    assert [call.node for call in rollout.calls] == list(topology.order)
    for call, message in zip(rollout.calls, line["messages"], strict=True):
        assert message["prompt_tokens"] == len(call.prompt_token_ids) > 0
        assert reader.text(kept, line, call.node) == renderer.spell(call.prompt_token_ids)


@pytest.mark.parametrize("topology", [OWN_BUDGET, grown()], ids=["budgets", "grown"])
@pytest.mark.parametrize("name", list(SETTINGS))
@pytest.mark.parametrize("template", [None, CHATML], ids=["plain", "chat"])
def test_a_prompt_is_written_again_as_the_engine_got_it(
    tmp_path: Path, template: str | None, name: str, topology: Topology
) -> None:
    base = write_letter_base(tmp_path, CHATML_TOKENS, template)
    renderer = make_renderer(PromptSpec.model_validate(SETTINGS[name]), base)
    engine = ScriptedEngine(lambda call: [*map(ord, call.id[-3:]), 32, 33], stop_token_id=FIRST_SPECIAL)
    reader = PromptReader.of({"prompt": SETTINGS[name], "sampling": {"max_tokens": 6}}, base)
    assert_written_again(renderer, reader, topology, engine)


@pytest.mark.parametrize("settings", [{}, {"max_signal_tokens": 1}], ids=["usual", "cut signals"])
def test_a_prompt_of_words_is_written_again_as_the_engine_got_it(word_base: Path, settings: dict[str, Any]) -> None:
    renderer = make_renderer(PromptSpec.model_validate(settings), word_base)
    reader = PromptReader.of({"prompt": settings, "sampling": {"max_tokens": 6}}, word_base)
    assert_written_again(renderer, reader, grown(), ScriptedEngine(lambda call: tokens("so A= 3")))


def test_the_text_holds_all_that_was_read(tmp_path: Path) -> None:
    base = write_letter_base(tmp_path, CHATML_TOKENS, CHATML)
    text = "Say 8.\n\nTask:\nWhich?\n\nMessage from layer 1, position 1:\nB!"
    around = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    num_tokens = len(around) - len("<|im_start|><|im_end|><|im_start|>") + 3  # a letter is a token, a mark is one too
    said = [("a", "B!", 1), ("out", "B", num_tokens)]
    messages = [dict(zip(("node", "text", "prompt_tokens"), one, strict=True)) for one in said]
    line = {"example": "x", "level": None, "question": "Which?", "expected": "B", "messages": messages}
    graph = Topology((Node("a"), Node("out")), (("a", "out"),), "out")
    reader = PromptReader.of({"prompt": {"instruction": "Say {max_tokens}."}}, base)
    assert reader.text(graph, line, "out") == around


def test_another_base_is_told_from_the_one_that_read_it(word_base: Path, tmp_path: Path) -> None:
    renderer = make_renderer(PromptSpec(), word_base)
    topology = layered([1])
    _, line = asked(renderer, topology, ScriptedEngine(lambda call: tokens("so 3")))
    other = PromptReader.of({}, write_letter_base(tmp_path))
    with pytest.raises(BaseModelError, match=r"had \d+ tokens and has \d+ when it is written again: the base is not"):
        other.text(topology, line, topology.output)


def test_a_node_that_was_not_asked_read_nothing(word_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), word_base)
    topology = layered([2])
    rollout, line = asked(renderer, topology, ScriptedEngine(lambda call: tokens("so 3"), max_model_len=8))
    assert rollout.failure is not None
    reader = PromptReader.of({}, word_base)
    with pytest.raises(RolloutError, match=f"node '{topology.output}' was not asked"):
        reader.text(topology, line, topology.output)


def test_words_that_the_base_does_not_know_are_shown_as_it_read_them(word_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), word_base)
    topology = layered([1])
    batch = replace(make_batch(topology), examples=(Example("q", "what nobody knows", "3"),))
    (group,) = Dataflow(ScriptedEngine(lambda call: tokens("3")), renderer).run(TASK, batch)
    (line,) = RolloutsSampled(stage=0, step=1, rollouts=group.rollouts).to_documents()
    assert PromptReader.of({}, word_base).text(topology, line, "n1").startswith("<bos> <unk> <unk> <unk> @")
