"""What nodes read, in a report: as the engine got it, as far as there is room, or why it is not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from word_batches import TASK, make_batch, tokens

from neuromas.base.resolve import resolve_base
from neuromas.engines.scripted import ScriptedEngine
from neuromas.journal.events import QuestionsAsked, RolloutsSampled, StageStarted
from neuromas.journal.folder import RunFolder, RunWriter
from neuromas.report.data import RunData
from neuromas.report.page import render
from neuromas.report.prompts import MAX_CHARACTERS
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Rollout
from neuromas.rollout.renderer import Renderer
from neuromas.spec.parts import PromptSpec
from neuromas.topology.builders import chain

GRAPH = chain(2)


def rolled_out(renderer: Renderer, count: int, question: str | None = None) -> tuple[Rollout, ...]:
    examples = tuple(TASK.example("train", index) for index in range(count))
    if question is not None:
        examples = tuple(replace(example, prompt=question) for example in examples)
    groups = Dataflow(ScriptedEngine(lambda call: tokens("so A= 3")), renderer).run(
        TASK, replace(make_batch(GRAPH), examples=examples)
    )
    return tuple(group.rollouts[0] for group in groups)


def make_run(folder: Path, base: str, rollouts: tuple[Rollout, ...]) -> Path:
    RunFolder(folder).create({"name": "kept", "base": base, "task": {"type": "chain", "hops": 2}})
    writer = RunWriter(folder)
    document = GRAPH.to_document()
    writer(StageStarted(stage=0, name="s", topology=document, level=2, steps=9, trainable_parameters=1))
    writer(RolloutsSampled(stage=0, step=1, rollouts=rollouts))
    writer(QuestionsAsked(stage=0, step=1, rollouts=rollouts[:1]))
    writer.close()
    return folder


def drawn(folder: Path) -> tuple[dict[str, Any], str]:
    """Return what is drawn in the report's parts of messages, by kind, and the whole page."""
    page = render(RunData.read(folder))
    found = {}
    for kind in ("questions", "rollouts"):
        text = page.partition(f'data-kind="{kind}"')[2].partition('<script type="application/json">')[2]
        found[kind] = json.loads(text.partition("</script>")[0])
    return found, page


def read_by(entry: dict[str, Any]) -> dict[str, str]:
    return {message["node"]: message["prompt"] for message in entry["messages"] if "prompt" in message}


def test_each_message_comes_with_what_its_node_read(tmp_path: Path) -> None:
    renderer = make_renderer(PromptSpec(), resolve_base("tiny"))
    rollouts = rolled_out(renderer, 3)
    found, page = drawn(make_run(tmp_path / "run", "tiny", rollouts))
    expected = [{call.node: renderer.spell(call.prompt_token_ids) for call in rollout.calls} for rollout in rollouts]
    assert [read_by(entry) for entry in found["rollouts"]["entries"]] == expected
    assert [read_by(entry) for entry in found["questions"]["entries"]] == expected[:1]
    assert expected[0]["n2"] == f"<bos> {rollouts[0].example.prompt} @ L2 N1 | L1 N1 : so A= 3 >"
    assert "What the nodes read is" not in page


def test_a_base_that_is_gone_is_told_and_the_messages_stay(tmp_path: Path, word_base: Path) -> None:
    base = shutil.copytree(word_base, tmp_path / "base")
    folder = make_run(tmp_path / "run", str(base), rolled_out(make_renderer(PromptSpec(), base), 2))
    assert len(read_by(drawn(folder)[0]["rollouts"]["entries"][0])) == 2
    shutil.rmtree(base)
    found, page = drawn(folder)
    assert [read_by(entry) for entry in found["rollouts"]["entries"]] == [{}, {}]
    assert [message["text"] for message in found["rollouts"]["entries"][0]["messages"]] == ["so A= 3", "so A= 3"]
    assert page.count(f"What the nodes read is not shown: base &#x27;{base}&#x27;: {base} is not a folder") == 2


def test_a_hub_base_is_not_downloaded_for_a_report(tmp_path: Path, word_base: Path) -> None:
    folder = make_run(tmp_path / "run", "nobody/nothing", rolled_out(make_renderer(PromptSpec(), word_base), 1))
    _, page = drawn(folder)
    assert "base &#x27;nobody/nothing&#x27; is neither a folder nor in the local hub cache." in page


def test_prompts_of_the_last_rollouts_are_kept_where_not_all_fit(tmp_path: Path, word_base: Path) -> None:
    question = "x " * (MAX_CHARACTERS // len("<unk> ") // 3)  # one of them takes a third, and two nodes read each
    rollouts = rolled_out(make_renderer(PromptSpec(), word_base), 3, question)
    found, page = drawn(make_run(tmp_path / "run", str(word_base), rollouts))
    assert [sorted(read_by(entry)) for entry in found["rollouts"]["entries"]] == [[], [], ["n1", "n2"]]
    assert page.count("What the nodes read is shown of the last 1.") == 1
